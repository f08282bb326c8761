//! What a reader wants first: the verdict, the headline figures, the objectives and the checks of the money.
//!
//! Refuses to judge: the verdict, each `met` and each `ok` are the report's. Invariants: nothing is told by colour alone; a figure's
//! exact value is in the `value` of its `<data>`.

use super::super::{Report, Verdict};
use super::markup::{Escaped, Html};
use super::units::{NOT_KNOWN, count, latency, latency_exact, percent_of, rate, seconds};

/// The banner: pass or fail, why, and whether the run was ended early.
pub(super) fn banner(report: &Report, html: &mut Html) {
    let (class, word) = verdict(report.verdict);
    let met = match report.verdict {
        Verdict::Pass => "all that was asked of the run was met",
        Verdict::Fail => "not all that was asked of the run was met",
    };
    html.put(format_args!(
        "<section class=\"banner {class}\" aria-label=\"Verdict\">\n<p class=\"verdict\">{word}</p>\n\
         <p>{} commands in {}: {met}.</p>\n",
        count(report.sent),
        seconds(report.measured_s)
    ));
    if !report.failures.is_empty() {
        html.raw("<ul>\n");
        for failure in &report.failures {
            html.put(format_args!("<li>{}</li>\n", Escaped(failure)));
        }
        html.raw("</ul>\n");
    }
    html.raw("</section>\n");
    if report.ended_early {
        html.put(format_args!(
            "<p class=\"early\"><b>Ended early.</b> The run was stopped before its planned end; what follows was measured in the {} until then.</p>\n",
            seconds(report.measured_s)
        ));
    }
}

/// The word for a verdict, and its class in the style sheet.
pub(super) fn verdict(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Pass => ("pass", "Pass"),
        Verdict::Fail => ("fail", "Fail"),
    }
}

/// The figures that fit on a line.
pub(super) fn headline(report: &Report, html: &mut Html) {
    let all = report.latency_ns;
    html.raw("<section aria-label=\"Headline figures\">\n<dl class=\"cards\">\n");
    rate_card(html, "offered", report.offered_per_s, &format!("{} sent", count(report.sent)));
    let achieved = percent_of(report.achieved_per_s, report.offered_per_s);
    let achieved = achieved.map_or(NOT_KNOWN.to_owned(), |percent| format!("{percent} of offered"));
    rate_card(html, "achieved", report.achieved_per_s, &achieved);
    for (name, ns, what) in [
        ("p50", all.p50, "half of them faster"),
        ("p99", all.p99, "1 of 100 slower"),
        ("p99.9", all.p99_9, "1 of 1,000 slower"),
        ("max", all.max, "the slowest"),
    ] {
        card(html, name, "", &format!("<data value=\"{ns}\">{}</data>", latency(ns)), what);
    }
    card(
        html,
        "busy",
        "",
        &format!("<data value=\"{0}\">{1}</data>", report.busy, count(report.busy)),
        "refused, or too late to send",
    );
    let held = report.money.iter().filter(|check| check.ok).count();
    let checks = format!("{held} of {} checks held", report.money.len());
    let (class, word) = if report.money_ok { ("good", "ok") } else { ("bad", "wrong") };
    card(html, "money", class, word, &checks);
    html.raw("</dl>\n");
    let own = report.send_delay_ns;
    html.put(format_args!(
        "<p class=\"note\">Latency counts from the planned send time to the reply, so the wait behind a slow moment counts as well \
         (coordinated omission corrected). The warm-up is excluded. The generator itself sent 99.9 % of the commands within {} of \
         their planned time, the last within {}; that is part of the latencies.</p>\n</section>\n",
        latency(own.p99_9),
        latency(own.max)
    ));
}

fn rate_card(html: &mut Html, name: &'static str, per_s: f64, what: &str) {
    let text = rate(per_s);
    let figure =
        if text == NOT_KNOWN { text } else { format!("<data value=\"{per_s:?}\">{text}</data><small>/s</small>") };
    card(html, name, "", &figure, what);
}

/// `figure` is markup of this file.
fn card(html: &mut Html, name: &'static str, class: &'static str, figure: &str, what: &str) {
    html.put(format_args!(
        "<div class=\"{class}\"><dt>{name}</dt><dd>{figure}</dd><dd class=\"what\">{}</dd></div>\n",
        Escaped(what)
    ));
}

/// The objectives.
pub(super) fn objectives(report: &Report, html: &mut Html) {
    html.raw("<section>\n<h2>Objectives</h2>\n");
    if report.slo.is_empty() {
        html.raw("<p class=\"none\">None was given.</p>\n</section>\n");
        return;
    }
    html.raw(
        "<div class=\"scroll\"><table>\n<caption>Each objective, and what was measured over the whole run</caption>\n\
         <thead><tr><th scope=\"col\">Objective</th><th scope=\"col\" class=\"n\">Measured</th><th scope=\"col\">Verdict</th></tr></thead>\n<tbody>\n",
    );
    for objective in &report.slo {
        html.put(format_args!(
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"n\"><data value=\"{}\">{}</data></td><td>{}</td></tr>\n",
            Escaped(&objective.objective),
            objective.measured_ns,
            latency_exact(objective.measured_ns),
            mark(objective.met, "met", "missed")
        ));
    }
    html.raw("</tbody>\n</table></div>\n</section>\n");
}

/// The checks of the money.
pub(super) fn money(report: &Report, html: &mut Html) {
    html.raw("<section>\n<h2>Money</h2>\n");
    if report.money.is_empty() {
        html.raw("<p class=\"none\">No check was made.</p>\n</section>\n");
        return;
    }
    html.raw(
        "<div class=\"scroll\"><table class=\"money\">\n<caption>Each check made after the run</caption>\n\
         <thead><tr><th scope=\"col\">Check</th><th scope=\"col\">Verdict</th><th scope=\"col\" class=\"detail\">Figures</th></tr></thead>\n<tbody>\n",
    );
    for check in &report.money {
        html.put(format_args!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"detail\">{}</td></tr>\n",
            Escaped(&check.name),
            mark(check.ok, "held", "failed"),
            Escaped(&check.detail)
        ));
    }
    html.raw("</tbody>\n</table></div>\n</section>\n");
}

/// A word with its sign and colour.
pub(super) fn mark(good: bool, yes: &'static str, no: &'static str) -> String {
    let (class, sign, word) = if good { ("good", "✓", yes) } else { ("bad", "✗", no) };
    format!("<span class=\"mark {class}\"><span aria-hidden=\"true\">{sign}</span> {word}</span>")
}
