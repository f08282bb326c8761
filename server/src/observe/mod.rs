//! What the server shows of itself: metrics, logs, traces, the status page. Refuses to change anything.
