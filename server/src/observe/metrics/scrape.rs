//! Values at the moment of a scrape, on their way to text. Owns the exporter; refuses to be on a request's path.

use metrics::{Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::families::{FAMILIES, Family, Kind};

const META: Metadata<'static> = Metadata::new("tpcore", Level::INFO, None);

/// A recorder of our own, never the process's: several servers live in one test process.
pub(crate) struct Scrape(PrometheusRecorder);

impl Scrape {
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for Family { name, kind, help } in FAMILIES {
            let (name, help) = ((*name).into(), (*help).into());
            match kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram => {}
            }
        }
        Self(recorder)
    }

    /// What has been counted so far. A smaller number than before is ignored.
    pub(crate) fn counter(&self, name: &'static str, labels: &[(&'static str, &str)], value: u64) {
        self.0.register_counter(&key(name, labels), &META).absolute(value);
    }

    /// A value now.
    pub(crate) fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.0.register_gauge(&key(name, labels), &META).set(value);
    }

    /// A value now, a whole number: exact below 2^53.
    #[allow(clippy::cast_precision_loss, reason = "the text format has floating point numbers only")]
    pub(crate) fn count(&self, name: &'static str, labels: &[(&'static str, &str)], value: u64) {
        self.gauge(name, labels, value as f64);
    }

    /// 1 or 0.
    pub(crate) fn flag(&self, name: &'static str, value: bool) {
        self.gauge(name, &[], f64::from(u8::from(value)));
    }

    /// All counters and gauges in the text format 0.0.4, sorted, so that two scrapes can be compared line by line.
    pub(crate) fn text(&self) -> String {
        let unsorted = self.0.handle().render();
        let mut families: Vec<String> = unsorted.split_terminator("\n\n").map(sorted_family).collect();
        families.sort_unstable();
        families.concat()
    }
}

/// HELP and TYPE first, then the series in order. Every family begins with `# HELP name`, so that whole families sort by name.
fn sorted_family(text: &str) -> String {
    let (mut heads, mut lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('#'));
    lines.sort_unstable();
    heads.append(&mut lines);
    heads.join("\n") + "\n"
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> = labels.iter().map(|(key, value)| Label::new(*key, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}
