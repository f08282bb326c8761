//! What every bench target shares: how long and how often criterion measures.

use std::time::Duration;

use criterion::Criterion;

/// Criterion's settings: so long for each bench, in so many samples.
pub(crate) fn criterion(measured: Duration, samples: usize) -> Criterion {
    Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(measured)
        .sample_size(samples)
        .nresamples(10_000)
        .configure_from_args()
}
