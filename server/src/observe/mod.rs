//! What the server shows of itself: metrics, logs, traces, the status page. Refuses to change anything.
//!
//! ```text
//!  request -- Stopwatch, TraceContext --> answered --+--> Metrics::request, ::command    atomic numbers, one short lock
//!                                                    +--> log::access                    bounded lines on standard error
//!                                                    +--> Traces::request (`otlp`)       bounded queue, spans made afterwards
//!
//!  GET /metrics     <-- Metrics::render(EngineStatus)
//!  GET /status.json <-- status_json(Metrics, EngineStatus) <-- polled by `/`, one page without any outer file
//! ```
//!
//! Invariants: SEC-1 (no secret and no body is ever shown), LIM-1 (series, lines a second and waiting spans are bounded).

pub mod log;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod page;
pub mod stages;
pub mod status;
pub mod trace_context;

#[cfg(test)]
mod documents;

pub use metrics::{
    AuthenticationFailure, CardStats, ConnectionRefusal, Counted, EngineLimits, METRICS_CONTENT_TYPE, Metrics,
    MetricsOptions, RateLimit, TlsFailure,
};
pub use page::status_page;
pub use stages::{Stage, Stopwatch};
pub use status::status_json;
pub use trace_context::{SpanId, TraceContext, TraceId};
