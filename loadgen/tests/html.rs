//! The HTML report as a reader and a browser get it: escaped, whole in itself, sound for any figures, and true to the report.
//!
//! Refuses to look at colours and places: a browser shows those.

use std::collections::BTreeMap;

use tp_loadgen::report::html::render;
use tp_loadgen::report::{
    CurvePoint, Latency, Machine, MoneyCheck, PerCommand, Report, Second, SloResult, Trial, Verdict,
};

const HOSTILE: &str = "<script>alert(1)</script>\"'&\u{202e}\0<img onerror=x>";

/// Half a minute of mixed commands with two checkpoints and a spike in second 21.
fn realistic() -> Report {
    let outcomes =
        |list: &[(&str, u64)]| list.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<BTreeMap<_, _>>();
    let command = |completed, p50_us: u64, list: &[(&str, u64)]| PerCommand {
        completed,
        outcomes: outcomes(list),
        latency_ns: latency(p50_us * 1_000, 11),
    };
    let configuration = [
        ("rate", "150000"),
        ("duration", "30 s"),
        ("warm-up", "5 s"),
        ("accounts", "1000000"),
        ("mix", "authorize=60,capture=25,void=5,refund=3,lookup=7"),
        ("skew", "zipf:0.99"),
        ("target", "embedded"),
        ("partitions", "2"),
        ("journal", "segment"),
        ("checkpoint interval", "10 s"),
        ("slo", "p99.9<300ms, p50<20ms"),
    ];
    let money = [
        ("trial balance", "debits 18,231,004,112.07 = credits 18,231,004,112.07"),
        ("approved amounts", "engine 7,311,900.00 = generator 7,311,900.00 in 2,571,311 approvals"),
        ("in transit", "0 in 2 partitions"),
        ("digest after re-opening", "9f2c41d07ab3e655 = 9f2c41d07ab3e655"),
    ];
    let slo = [("p99.9<300ms", 212_336_639), ("p50<20ms", 5_123_071)];
    Report {
        tool: "tp-loadgen 0.1.0".to_owned(),
        started: "2026-03-14T09:26:53Z".to_owned(),
        command: "tp-loadgen --rate 150000 --skew zipf:0.99 --slo 'p99.9<300ms' --slo 'p50<20ms' --report run.html"
            .to_owned(),
        machine: Machine {
            cpu: "An 8-core processor at 3.1 GHz".to_owned(),
            cores: 2,
            memory_bytes: 8 << 30,
            os: "Linux 6.1".to_owned(),
            file_system: "ext4".to_owned(),
        },
        seed: 42,
        configuration: configuration.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        verdict: Verdict::Pass,
        failures: Vec::new(),
        ended_early: false,
        measured_s: 30.0,
        offered_per_s: 150_000.0,
        achieved_per_s: 149_987.4,
        sent: 4_500_000,
        completed: 4_499_622,
        busy: 378,
        outcomes: outcomes(&[
            ("approved", 3_901_220),
            ("insufficient_funds", 411_877),
            ("hold_not_found", 96_310),
            ("already_captured", 61_204),
            ("duplicate", 29_000),
            ("account_blocked", 11),
        ]),
        latency_ns: Latency {
            p50: 5_123_071,
            p90: 9_437_183,
            p99: 31_457_279,
            p99_9: 212_336_639,
            p99_99: 281_018_367,
            max: 318_767_103,
        },
        send_delay_ns: Latency {
            p50: 61_000,
            p90: 118_000,
            p99: 402_000,
            p99_9: 1_912_000,
            p99_99: 7_400_000,
            max: 9_120_000,
        },
        trials: Vec::new(),
        per_command: BTreeMap::from([
            (
                "authorize".to_owned(),
                command(2_699_800, 5_210, &[("approved", 2_287_923), ("insufficient_funds", 411_877)]),
            ),
            (
                "capture".to_owned(),
                command(
                    1_124_901,
                    5_090,
                    &[("approved", 1_043_697), ("already_captured", 61_204), ("duplicate", 20_000)],
                ),
            ),
            ("lookup".to_owned(), command(314_973, 980, &[("approved", 314_973)])),
            ("refund".to_owned(), command(134_990, 5_130, &[("approved", 134_979), ("account_blocked", 11)])),
            (
                "void".to_owned(),
                command(224_958, 5_070, &[("approved", 119_648), ("hold_not_found", 96_310), ("duplicate", 9_000)]),
            ),
        ]),
        curve: curve(),
        series: (0..30).map(second).collect(),
        slo: slo
            .map(|(objective, measured_ns)| SloResult { objective: objective.to_owned(), measured_ns, met: true })
            .to_vec(),
        money_ok: true,
        money: money
            .map(|(name, detail)| MoneyCheck { name: name.to_owned(), ok: true, detail: detail.to_owned() })
            .to_vec(),
        transport: BTreeMap::new(),
        rss_bytes: 1_503_238_553,
        journal_bytes: 734_003_200,
        opening: None,
        disk: None,
        cpu: None,
    }
}

fn latency(p50: u64, spread: u64) -> Latency {
    Latency {
        p50,
        p90: p50 * 2,
        p99: p50 * spread,
        p99_9: p50 * spread * 2,
        p99_99: p50 * spread * 3,
        max: p50 * spread * 4,
    }
}

fn curve() -> Vec<CurvePoint> {
    let points = [
        (0.0, 211_000),
        (10.0, 2_100_000),
        (25.0, 3_530_000),
        (50.0, 5_123_071),
        (75.0, 7_200_000),
        (90.0, 9_437_183),
        (95.0, 13_100_000),
        (97.5, 19_200_000),
        (99.0, 31_457_279),
        (99.5, 71_000_000),
        (99.75, 142_000_000),
        (99.9, 212_336_639),
        (99.95, 244_000_000),
        (99.99, 281_018_367),
        (99.999, 309_000_000),
        (99.9999, 318_000_000),
        (100.0, 318_767_103),
    ];
    points.map(|(percentile, latency_ns)| CurvePoint { percentile, latency_ns }).to_vec()
}

fn second(t_s: u64) -> Second {
    let wobble = (t_s * t_s * 31 + t_s * 17) % 13;
    let checkpoint_running = matches!(t_s, 8..=10 | 18..=20);
    let base = Second {
        t_s,
        offered: 150_000,
        completed: 149_200 + wobble * 120,
        busy: 0,
        latency_ns: latency(4_800_000 + wobble * 90_000, if checkpoint_running { 5 } else { 3 }),
        durable_lag_events: 1_100 + wobble * 75,
        checkpoint_running,
        rss_bytes: 1 << 30,
    };
    match t_s {
        21 => Second {
            completed: 118_000,
            busy: 378,
            latency_ns: Latency { p50: 18_000_000, max: 318_767_103, ..latency(20_000_000, 5) },
            durable_lag_events: 31_400,
            ..base
        },
        22 => Second { completed: 180_900, durable_lag_events: 9_400, ..base },
        _ => base,
    }
}

fn trial(rate_per_s: u64, failures: &[&str]) -> Trial {
    Trial {
        rate_per_s,
        achieved_per_s: 99_812.5,
        latency_ns: latency(rate_per_s * 40, 9),
        passed: failures.is_empty(),
        failures: failures.iter().map(|why| (*why).to_owned()).collect(),
    }
}

/// A run of which nothing came.
fn nothing() -> Report {
    let none = Latency::default();
    Report {
        measured_s: 0.0,
        offered_per_s: 0.0,
        achieved_per_s: 0.0,
        sent: 0,
        completed: 0,
        busy: 0,
        outcomes: BTreeMap::new(),
        latency_ns: none,
        send_delay_ns: none,
        per_command: BTreeMap::new(),
        curve: Vec::new(),
        series: Vec::new(),
        slo: Vec::new(),
        money: Vec::new(),
        configuration: BTreeMap::new(),
        machine: Machine::default(),
        rss_bytes: 0,
        journal_bytes: 0,
        ..realistic()
    }
}

/// What a browser needs of any page: every number of a drawing is one and lies on it, every element that is opened is closed.
fn is_sound(page: &str) {
    for part in page.split("<svg ").skip(1) {
        let drawing = part.split("</svg>").next().expect("split gives one part at least");
        for name in [" d=\"", " x=\"", " y=\"", " width=\"", " height=\"", " opacity=\""] {
            for value in drawing.split(name).skip(1).filter_map(|rest| rest.split('"').next()) {
                numbers_lie_on_the_drawing(value);
            }
        }
    }
    for value in page.split("style=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        for place in value.split(';') {
            let percent = place.split_once(':').and_then(|(_, percent)| percent.strip_suffix('%'));
            let percent: f64 = percent.and_then(|percent| percent.parse().ok()).expect("a place in percent");
            assert!((0.0..=100.0).contains(&percent), "{value}");
        }
    }
    for name in ["NaN", ">inf", " inf", "\"inf"] {
        assert!(!page.contains(name), "{name} is on the page");
    }
    for tag in [
        "section", "figure", "svg", "title", "table", "tbody", "tr", "td", "th", "div", "span", "ul", "li", "p", "data",
    ] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "<{tag}>");
    }
}

fn numbers_lie_on_the_drawing(value: &str) {
    for number in value.split(|c: char| c.is_ascii_whitespace() || "MLHVZh".contains(c)).filter(|part| !part.is_empty())
    {
        let number: f64 = number.parse().unwrap_or_else(|_| panic!("{number} in {value}"));
        assert!((0.0..=1000.0).contains(&number), "{number} in {value}");
    }
}

/// The exact values on the page, in order.
fn data_values(page: &str) -> Vec<&str> {
    page.split("<data value=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

fn part<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    let at = page.find(from).unwrap_or_else(|| panic!("{from} is on the page"));
    page[at..].split(to).next().expect("split gives one part at least")
}

#[test]
fn a_hostile_string_anywhere_in_the_report_is_shown_and_does_nothing() {
    let hostile = || HOSTILE.to_owned();
    let mut report = realistic();
    report.tool = hostile();
    report.started = hostile();
    report.command = hostile();
    report.machine = Machine { cpu: hostile(), os: hostile(), file_system: hostile(), ..Machine::default() };
    report.configuration = BTreeMap::from([(hostile(), hostile())]);
    report.failures = vec![hostile()];
    report.outcomes = BTreeMap::from([(hostile(), 1)]);
    let command = PerCommand { completed: 1, outcomes: report.outcomes.clone(), latency_ns: Latency::default() };
    report.per_command = BTreeMap::from([(hostile(), command)]);
    // An objective that can be drawn reaches a chart as well.
    report.slo = [HOSTILE, "p99</**/1ms", "p99<1ms"]
        .map(|objective| SloResult { objective: objective.to_owned(), measured_ns: 1, met: false })
        .to_vec();
    report.money = vec![MoneyCheck { name: hostile(), ok: false, detail: hostile() }];
    report.trials = vec![trial(1, &[HOSTILE])];
    let page = render(&report);
    is_sound(&page);
    assert_eq!(page.matches("<script").count(), 1, "the one script is the page's own");
    assert!(!page.contains("<img"), "no element comes from the report");
    assert!(!page.contains('\0') && !page.contains('\u{202e}'), "controls and direction marks are shown by number");
    let shown = page
        .matches("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;\\u{202e}\\u{0}&lt;img onerror=x&gt;")
        .count();
    assert_eq!(shown, 19, "the tool three times, the start and the outcome twice, each other string once");
}

#[test]
fn the_page_refers_to_nothing_outside_itself() {
    let page = render(&realistic());
    for reference in ["http://", "https://", "src=", "href=", "url(", "@import", "<link", "<img", "<iframe", "fetch("] {
        assert!(!page.contains(reference), "{reference}");
    }
    assert!(page.contains("default-src 'none'"), "and the browser is told to forbid it");
}

#[test]
fn the_figures_on_the_page_are_those_of_the_report() {
    let report = realistic();
    let page = render(&report);
    is_sound(&page);
    let all = report.latency_ns;
    assert_eq!(
        data_values(part(&page, "Headline figures", "</section>")),
        [
            "150000.0".to_owned(),
            "149987.4".to_owned(),
            all.p50.to_string(),
            all.p99.to_string(),
            all.p99_9.to_string(),
            all.max.to_string(),
            report.busy.to_string(),
        ]
    );
    for text in [
        ">149,987</data>",
        ">5.12 ms</data>",
        ">212 ms</data>",
        ">319 ms</data>",
        "99.99 % of offered",
        "4 of 4 checks held",
    ] {
        assert!(part(&page, "Headline figures", "</section>").contains(text), "{text}");
    }
    let objectives = part(&page, "<h2>Objectives", "</section>");
    assert_eq!(data_values(objectives), ["212336639", "5123071"]);
    assert!(objectives.contains("<code>p99.9&lt;300ms</code>"), "{objectives}");
    assert_eq!(
        data_values(part(&page, "<h2>Outcomes", "</section>")),
        ["3901220", "411877", "96310", "61204", "29000", "11"]
    );
    for (name, command) in &report.per_command {
        let row = part(&page, &format!("<tr><th scope=\"row\">{name}</th>"), "</tbody>");
        let of = command.latency_ns;
        let mut expect = vec![command.completed, of.p50, of.p90, of.p99, of.p99_9, of.p99_99, of.max];
        let mut outcomes: Vec<u64> = command.outcomes.values().copied().collect();
        outcomes.sort_by_key(|n| std::cmp::Reverse(*n));
        expect.extend(outcomes);
        assert_eq!(data_values(row), expect.iter().map(u64::to_string).collect::<Vec<_>>(), "{name}");
    }
    let own = report.send_delay_ns;
    assert_eq!(
        data_values(part(&page, "send delay (included)", "</tr>")),
        [own.p50, own.p90, own.p99, own.p99_9, own.p99_99, own.max].map(|ns| ns.to_string())
    );
    let run = part(&page, "<h2>What was run", "</section>");
    for text in
        ["tp-loadgen --rate 150000", "2026-03-14T09:26:53Z", "<td>42</td>", "zipf:0.99", "8.0 GiB", "ext4", "700.0 MiB"]
    {
        assert!(run.contains(text), "{text}");
    }
}

#[test]
fn a_passed_run_says_so_and_lists_no_failures() {
    let banner = render(&realistic());
    let banner = part(&banner, "<section class=\"banner", "</section>");
    assert!(banner.contains("banner pass") && banner.contains(">Pass<"), "{banner}");
    assert!(!banner.contains("<li>"), "{banner}");
}

#[test]
fn a_failed_run_that_was_ended_early_says_both_and_why() {
    let mut report = realistic();
    report.verdict = Verdict::Fail;
    report.failures = vec!["p99.9 was 412 ms".to_owned(), "the money is wrong".to_owned()];
    report.ended_early = true;
    report.measured_s = 12.34;
    report.money_ok = false;
    report.money[0].ok = false;
    report.slo[0].met = false;
    let page = render(&report);
    is_sound(&page);
    let banner = part(&page, "<section class=\"banner", "</section>");
    assert!(banner.contains("banner fail") && banner.contains(">Fail<"), "{banner}");
    assert!(banner.contains("<li>p99.9 was 412 ms</li>") && banner.contains("<li>the money is wrong</li>"), "{banner}");
    assert!(part(&page, "class=\"early\"", "</p>").contains("12.3 s"));
    assert!(part(&page, "<dt>money", "</div>").contains("wrong"));
    assert!(part(&page, "<h2>Objectives", "</section>").contains("missed"));
    assert!(part(&page, "<h2>Money", "</section>").contains("failed"));
    let names: Vec<&str> = page.split("class=\"wallname missed\"").skip(1).collect();
    assert_eq!(names.len(), 2, "the charts of latency show it as well");
    assert!(names.iter().all(|name| name.contains("p99.9&lt;300ms <b>missed</b>")), "{names:?}");
    assert!(!render(&realistic()).contains("class=\"early\""), "a run that was not ended early does not say so");
}

#[test]
fn a_search_lists_the_rates_it_tried_and_why_they_failed() {
    let mut report = realistic();
    report.trials = vec![trial(100_000, &[]), trial(200_000, &["p99.9 was 412 ms", "achieved 97 %"])];
    let page = render(&report);
    is_sound(&page);
    let search = part(&page, "<h2>Search", "</section>");
    assert_eq!(
        data_values(search),
        [
            "100000",
            "4000000",
            "36000000",
            "72000000",
            "144000000",
            "200000",
            "8000000",
            "72000000",
            "144000000",
            "288000000"
        ]
    );
    assert_eq!((search.matches("✓").count(), search.matches("✗").count()), (1, 1));
    assert!(search.contains("<td>p99.9 was 412 ms; achieved 97 %</td>"), "{search}");
    assert!(!render(&realistic()).contains("<h2>Search"), "a run at one rate lists none");
}

#[test]
fn a_checkpoint_is_shaded_once_on_each_chart_over_time() {
    let page = render(&realistic());
    assert_eq!(page.matches("<rect class=\"band\"").count(), 6, "two checkpoints on three charts");
    let mut report = realistic();
    report.series.iter_mut().for_each(|second| second.checkpoint_running = false);
    let page = render(&report);
    assert_eq!(page.matches("<rect class=\"band\"").count(), 0);
    assert!(!page.contains("checkpoint was running"), "nor does the legend speak of it");
}

#[test]
fn a_run_of_which_nothing_came_is_a_page_without_drawings() {
    let page = render(&nothing());
    is_sound(&page);
    assert_eq!(page.matches("<svg").count(), 0);
    assert_eq!(page.matches("Nothing was measured").count(), 4);
    assert!(page.contains("No check was made."));
}

#[test]
fn one_second_is_drawn_as_a_dot_on_each_line() {
    let mut report = realistic();
    report.series.truncate(1);
    let page = render(&report);
    is_sound(&page);
    assert_eq!(page.matches("h0\"").count(), 8, "three lines of throughput, four of latency, one of lag");
}

#[test]
fn seconds_without_replies_interrupt_the_lines_of_latency() {
    let mut report = realistic();
    for second in &mut report.series[10..12] {
        *second = Second { t_s: second.t_s, offered: 150_000, busy: 150_000, ..Second::default() };
    }
    let page = render(&report);
    is_sound(&page);
    let p50 = part(part(&page, "aria-label=\"Latency over time", "</svg>"), "line c-p50", "/>").to_owned();
    assert_eq!(p50.matches('M').count(), 2, "{p50}");
    report.series.iter_mut().for_each(|second| *second = Second { t_s: second.t_s, ..Second::default() });
    is_sound(&render(&report));
}

#[test]
fn figures_without_bound_do_not_break_the_page() {
    for per_s in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, -1.0] {
        let most =
            Latency { p50: u64::MAX, p90: u64::MAX, p99: u64::MAX, p99_9: u64::MAX, p99_99: u64::MAX, max: u64::MAX };
        let mut report = realistic();
        report.offered_per_s = per_s;
        report.achieved_per_s = per_s;
        report.measured_s = per_s;
        report.latency_ns = most;
        report.send_delay_ns = most;
        report.trials = vec![Trial { rate_per_s: u64::MAX, achieved_per_s: per_s, latency_ns: most, ..trial(1, &[]) }];
        report.sent = u64::MAX;
        report.outcomes = BTreeMap::from([("a".to_owned(), u64::MAX), ("b".to_owned(), u64::MAX), ("c".to_owned(), 0)]);
        report.rss_bytes = u64::MAX;
        report.curve.extend(
            [f64::NAN, f64::INFINITY, -5.0, 101.0, 100.0]
                .map(|percentile| CurvePoint { percentile, latency_ns: u64::MAX }),
        );
        report.slo[0].objective = "p99.9999999999<584y".to_owned();
        report.slo[1].objective = "p99.99999999999999<10000000000s".to_owned();
        for (at, second) in report.series.iter_mut().enumerate() {
            if at % 3 == 0 {
                *second = Second {
                    t_s: u64::MAX,
                    offered: u64::MAX,
                    completed: u64::MAX,
                    busy: u64::MAX,
                    latency_ns: most,
                    durable_lag_events: u64::MAX,
                    checkpoint_running: true,
                    rss_bytes: u64::MAX,
                };
            }
        }
        is_sound(&render(&report));
        report.series.retain(|second| second.t_s == u64::MAX);
        is_sound(&render(&report));
    }
}

#[test]
fn a_run_of_hours_stays_a_page_that_opens() {
    let mut report = realistic();
    report.series = (0..86_400).map(|t_s| Second { t_s, ..second(t_s % 30) }).collect();
    report.curve = (0..100_000_u32)
        .map(|at| CurvePoint { percentile: f64::from(at) / 1_000.0, latency_ns: u64::from(at) })
        .collect();
    let page = render(&report);
    is_sound(&page);
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    assert!(page.contains("each point is 144 seconds"), "the captions say what a point is");
}
