//! The four charts of a report: latency by percentile, and throughput, latency and durable lag over time.
//!
//! Refuses to know how a chart is drawn. Invariant: a caption's figure comes from the same data as its lines.
//!
//! An objective on a percentile is a wall: from the left to its percentile at its limit, then up. A distribution only ascends, so the
//! objective is met exactly when the curve passes under the corner.

use std::fmt::Write;

use super::super::{CurvePoint, Latency, Report};
use super::columns::{Column, columns, seconds_per_column};
use super::objective::{Limit, limits};
use super::plot::{Band, Hit, Line, Plot, Wall};
use super::scale::Axis;
use super::units::{NOT_KNOWN, count, float, latency, rate};

/// Most points of the distribution that the pointer finds.
const POINTS_MAX: usize = 600;
/// Most nines of the percentile axis.
const NINES_MAX: f64 = 9.0;
/// Least nines of the percentile axis, so that a short run has one too.
const NINES_MIN: f64 = 2.0;
/// Part of the percentile axis between its last nine and the maximum.
const NINES_TO_MAX: f64 = 0.12;

/// Room above the highest of counts, so that no line runs along the top edge.
const HEADROOM: f64 = 1.05;
const BANDS_NAME: &str = "a checkpoint was running";
const TIME_NAME: &str = "time since the measured part began";

/// Latency by percentile, on an axis on which each nine is as wide as the one before.
pub(super) fn percentiles(report: &Report) -> Plot {
    let points = curve(&report.curve);
    let limits = limits(&report.slo);
    let known = points.iter().map(|point| point.percentile).chain(limits.iter().map(|limit| limit.percentile));
    let last = known.filter(|percentile| *percentile < 100.0).map(nines).fold(NINES_MIN, f64::max).min(NINES_MAX);
    let end = last * (1.0 + NINES_TO_MAX);
    let x_of = |percentile: f64| if percentile >= 100.0 { end } else { nines(percentile).min(last) };
    let heights = points.iter().map(|point| point.latency_ns).chain(limits.iter().map(|limit| limit.under_ns));
    let wall = |limit: &Limit<'_>| Wall {
        name: limit.text.to_owned(),
        y: float(limit.under_ns),
        until: Some(x_of(limit.percentile)),
        met: limit.met,
    };
    let all = report.latency_ns;
    Plot {
        name: "Latency by percentile",
        caption: format!(
            "How long commands took: half of them {} or less, 99.9 % of them {} or less, the slowest {}. Both scales are logarithmic.",
            latency(all.p50),
            latency(all.p99_9),
            latency(all.max)
        ),
        x_name: "percentile of all commands",
        y_name: "latency",
        x: Axis::nines(end, nines_ticks(last, end)),
        y: latency_axis(heights),
        bands: Vec::new(),
        bands_name: BANDS_NAME,
        lines: vec![Line {
            class: "c-p50",
            name: "latency",
            points: points.iter().map(|point| Some((x_of(point.percentile), float(point.latency_ns)))).collect(),
        }],
        area: true,
        walls: limits.iter().map(wall).collect(),
        hits: curve_hits(&points, x_of, end),
    }
}

/// What was offered, completed and refused as busy.
pub(super) fn throughput(report: &Report) -> Plot {
    let columns = columns(&report.series);
    let most = columns.iter().flat_map(|c| [c.offered, c.completed, c.busy]).fold(0.0, f64::max);
    let line = |class, name, of: fn(&Column) -> f64| Line {
        class,
        name,
        points: columns.iter().map(|c| Some((c.middle(), of(c)))).collect(),
    };
    let caption = format!(
        "Commands a second: {} offered, {} achieved over the whole run{}.",
        rate(report.offered_per_s),
        rate(report.achieved_per_s),
        per_point(report, "their mean")
    );
    let lines = vec![
        line("c-completed", "completed", |c| c.completed),
        line("c-offered", "offered", |c| c.offered),
        line("c-busy", "busy", |c| c.busy),
    ];
    over_time("Throughput over time", "commands a second", caption, Axis::linear(most * HEADROOM), &columns, lines)
}

/// Percentiles of each second.
pub(super) fn latency_over_time(report: &Report) -> Plot {
    let columns = columns(&report.series);
    let answered = columns.iter().filter_map(|c| c.latency_ns);
    let heights = answered.flat_map(|latency| [latency.p50, latency.max]);
    let limits = limits(&report.slo);
    let axis = latency_axis(heights.chain(limits.iter().map(|limit| limit.under_ns)));
    let line = |class, name, of: fn(&Latency) -> u64| Line {
        class,
        name,
        points: columns.iter().map(|c| Some((c.middle(), float(of(c.latency_ns.as_ref()?))))).collect(),
    };
    let slowest = columns.iter().max_by_key(|c| c.latency_ns.map_or(0, |latency| latency.max));
    let slowest = slowest.and_then(|c| Some((c.name(), c.latency_ns?.max)));
    let caption = match slowest {
        Some((name, max)) => format!(
            "Of the replies in each second{}. The slowest, {}, came in {name}. The scale is logarithmic.",
            per_point(report, "the worst of them"),
            latency(max)
        ),
        None => "No second had a reply.".to_owned(),
    };
    let lines = vec![
        line("c-max", "max", |latency| latency.max),
        line("c-p999", "p99.9", |latency| latency.p99_9),
        line("c-p99", "p99", |latency| latency.p99),
        line("c-p50", "p50", |latency| latency.p50),
    ];
    let mut plot = over_time("Latency over time", "latency", caption, axis, &columns, lines);
    plot.walls = limits
        .iter()
        .map(|limit| Wall { name: limit.text.to_owned(), y: float(limit.under_ns), until: None, met: limit.met })
        .collect();
    plot
}

/// How far the journal was behind the decisions.
pub(super) fn durable_lag(report: &Report) -> Plot {
    let columns = columns(&report.series);
    let most = columns.iter().map(|c| c.lag).max().unwrap_or(0);
    let caption = format!(
        "Events decided and not yet durable at the end of each second{}: {} at most.",
        per_point(report, "the worst of them"),
        count(most)
    );
    let points = columns.iter().map(|c| Some((c.middle(), float(c.lag)))).collect();
    let lines = vec![Line { class: "c-lag", name: "durable lag", points }];
    let mut plot =
        over_time("Durable lag over time", "events", caption, Axis::linear(float(most) * HEADROOM), &columns, lines);
    plot.area = true;
    plot
}

fn over_time(
    name: &'static str,
    y_name: &'static str,
    caption: String,
    y: Axis,
    columns: &[Column],
    lines: Vec<Line>,
) -> Plot {
    let low = columns.first().map_or(0.0, Column::begin);
    let high = columns.last().map_or(1.0, Column::end);
    Plot {
        name,
        caption,
        x_name: TIME_NAME,
        y_name,
        x: Axis::time(low, high),
        y,
        bands: columns
            .chunk_by(|a, b| (a.checkpoint_seconds, a.seconds) == (b.checkpoint_seconds, b.seconds))
            .filter_map(band)
            .collect(),
        bands_name: BANDS_NAME,
        lines,
        area: false,
        walls: Vec::new(),
        hits: columns.iter().map(|c| Hit { from: c.begin(), to: c.end(), text: column_text(c) }).collect(),
    }
}

/// Columns in a row with the same share of a checkpoint, as one stretch.
fn band(columns: &[Column]) -> Option<Band> {
    let (first, last) = (columns.first()?, columns.last()?);
    (first.checkpoint_seconds > 0).then(|| Band { from: first.begin(), to: last.end(), strength: first.checkpoint() })
}

/// Everything about a column: each chart over time shows it, so that a spike in one can be read beside the others.
fn column_text(c: &Column) -> String {
    let mut text = c.name();
    let mut line = |name: &str, figure: String| write!(text, "\n{name}: {figure}").expect("a String takes everything");
    line("offered", format!("{}/s", rate(c.offered)));
    line("completed", format!("{}/s", rate(c.completed)));
    line("busy", format!("{}/s", rate(c.busy)));
    let of = |figure: fn(Latency) -> u64| c.latency_ns.map_or(NOT_KNOWN.to_owned(), |l| latency(figure(l)));
    line("p50", of(|l| l.p50));
    line("p99", of(|l| l.p99));
    line("p99.9", of(|l| l.p99_9));
    line("max", of(|l| l.max));
    line("durable lag", format!("{} events", count(c.lag)));
    if c.checkpoint_seconds > 0 {
        line("checkpoint", c.checkpoint_text());
    }
    text
}

/// A word on what a point is when it is more than a second.
fn per_point(report: &Report, what: &str) -> String {
    match seconds_per_column(report.series.len()) {
        1 => String::new(),
        n => format!(" (each point is {n} seconds, {what})"),
    }
}

fn latency_axis(values: impl Iterator<Item = u64>) -> Axis {
    let (low, high) = values.fold((u64::MAX, 1), |(low, high), ns| (low.min(ns), high.max(ns)));
    Axis::log_latency(low.min(high), high)
}

/// Nines of a percentile: 90 has one, 99 has two.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

fn nines_ticks(last: f64, end: f64) -> Vec<(f64, String)> {
    let mut ticks = vec![(0.0, "0".to_owned()), (nines(50.0), "50".to_owned())];
    let names = ["90", "99", "99.9", "99.99", "99.999", "99.9999", "99.99999", "99.999999", "99.9999999"];
    let whole = (1_u32..).map(f64::from).zip(names).take_while(|(at, _)| *at <= last + 1e-9);
    ticks.extend(whole.map(|(at, name)| (at, name.to_owned())));
    ticks.push((end, "max".to_owned()));
    ticks
}

/// The points that can be drawn: ascending, no more than [`POINTS_MAX`] and some, the first and the last among them.
fn curve(points: &[CurvePoint]) -> Vec<CurvePoint> {
    let mut points: Vec<CurvePoint> =
        points.iter().filter(|point| (0.0..=100.0).contains(&point.percentile)).copied().collect();
    points.sort_by(|a, b| a.percentile.total_cmp(&b.percentile));
    let (step, last) = (points.len().div_ceil(POINTS_MAX).max(1), points.last().copied());
    let mut kept: Vec<CurvePoint> = points.into_iter().step_by(step).collect();
    if step > 1 {
        kept.extend(last);
    }
    kept
}

/// Each point is found from half-way after the one before to half-way before the one after.
fn curve_hits(points: &[CurvePoint], x_of: impl Fn(f64) -> f64, end: f64) -> Vec<Hit> {
    let places: Vec<f64> = points.iter().map(|point| x_of(point.percentile)).collect();
    let between = |a: usize, b: usize| Some(f64::midpoint(*places.get(a)?, *places.get(b)?));
    let hit = |(at, point): (usize, &CurvePoint)| Hit {
        from: at.checked_sub(1).and_then(|before| between(before, at)).unwrap_or(0.0),
        to: between(at, at + 1).unwrap_or(end),
        text: format!("{}\n{}", percentile_name(point.percentile), latency(point.latency_ns)),
    };
    points.iter().enumerate().map(hit).collect()
}

fn percentile_name(percentile: f64) -> String {
    if percentile >= 100.0 {
        return "max".to_owned();
    }
    let digits = format!("{percentile:.7}");
    format!("p{}", digits.trim_end_matches('0').trim_end_matches('.'))
}
