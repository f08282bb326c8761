//! A chart: axes, lines, shaded stretches, limits and what the pointer finds, as one inline SVG in a figure.
//!
//! Refuses to know what a run is. Invariants: the drawing holds numbers from 0 to [`SIDE`] only, whatever the values; text is HTML
//! beside the SVG, so that the drawing can stretch to any width while letters keep their size; what a hover shows is a `<title>`
//! in the SVG, so that it is there without a script.
//!
//! ```text
//!  figure
//!  ├ name, caption, legend
//!  └ plot  ┌ y names ┬ svg: bands, grid, areas, lines, limits, hits ┐
//!          └         ┴ x names                                      ┘
//! ```

use super::markup::{Escaped, Html};
use super::scale::Axis;

/// Units along each side of the drawing.
const SIDE: f64 = 1000.0;
/// Least distance between the names of two limits, as a part of the height.
const NAME_HEIGHT: f64 = 0.075;
/// Where the name of a limit changes from the right of its corner to the left of it, as a part of the width.
const NAME_TURNS: f64 = 0.5;
/// Limits whose names are drawn.
const NAMES_MAX: usize = 8;

/// A line through points; `None` interrupts it.
#[derive(Debug)]
pub(super) struct Line {
    /// Its class in the style sheet, which gives its colour.
    pub(super) class: &'static str,
    /// Its name in the legend.
    pub(super) name: &'static str,
    /// (x, y) in the units of the axes.
    pub(super) points: Vec<Option<(f64, f64)>>,
}

/// A limit: a horizontal line, and where it ends a vertical one up to the top.
#[derive(Debug)]
pub(super) struct Wall {
    /// Its name beside it.
    pub(super) name: String,
    /// Its height in the units of the axis.
    pub(super) y: f64,
    /// Where it ends in the units of the axis; `None`: it goes on to the edge.
    pub(super) until: Option<f64>,
    /// Whether nothing crossed it.
    pub(super) met: bool,
}

/// A shaded stretch.
#[derive(Debug)]
pub(super) struct Band {
    /// Left end in the units of the axis.
    pub(super) from: f64,
    /// Right end in the units of the axis.
    pub(super) to: f64,
    /// How strongly it is shaded, 0 to 1.
    pub(super) strength: f64,
}

/// What the pointer finds from one x to another.
#[derive(Debug)]
pub(super) struct Hit {
    /// Left end in the units of the axis.
    pub(super) from: f64,
    /// Right end in the units of the axis.
    pub(super) to: f64,
    /// Lines of text.
    pub(super) text: String,
}

/// A chart.
#[derive(Debug)]
pub(super) struct Plot {
    /// Its heading, and its name to a screen reader.
    pub(super) name: &'static str,
    /// What it shows, in a sentence with the figure that matters most.
    pub(super) caption: String,
    /// What the horizontal axis is.
    pub(super) x_name: &'static str,
    /// What the vertical axis is.
    pub(super) y_name: &'static str,
    /// Horizontal axis.
    pub(super) x: Axis,
    /// Vertical axis.
    pub(super) y: Axis,
    /// Shaded stretches of x.
    pub(super) bands: Vec<Band>,
    /// What the shade means.
    pub(super) bands_name: &'static str,
    /// The lines, from back to front; the area under the first is filled when `area` is set.
    pub(super) lines: Vec<Line>,
    /// Whether the first line has its area filled.
    pub(super) area: bool,
    /// Limits.
    pub(super) walls: Vec<Wall>,
    /// What the pointer finds.
    pub(super) hits: Vec<Hit>,
}

impl Plot {
    /// Writes the figure.
    pub(super) fn write(&self, html: &mut Html) {
        html.put(format_args!(
            "<figure>\n<figcaption><h3>{}</h3><p>{}</p></figcaption>\n",
            Escaped(self.name),
            Escaped(&self.caption)
        ));
        if self.lines.iter().all(|line| line.points.iter().flatten().next().is_none()) {
            html.raw("<p class=\"none\">Nothing was measured that could be drawn here.</p>\n</figure>\n");
            return;
        }
        self.write_legend(html);
        html.put(format_args!("<div class=\"yname\">{}</div>\n<div class=\"plot\">\n", Escaped(self.y_name)));
        self.write_tick_names(html);
        self.write_drawing(html);
        self.write_wall_names(html);
        html.put(format_args!("</div>\n<div class=\"xname\">{}</div>\n</figure>\n", Escaped(self.x_name)));
    }

    fn write_legend(&self, html: &mut Html) {
        html.raw("<ul class=\"legend\">");
        for line in self.lines.iter().rev() {
            html.put(format_args!("<li><i class=\"key {}\"></i>{}</li>", line.class, Escaped(line.name)));
        }
        if !self.walls.is_empty() {
            html.raw("<li><i class=\"key wall\"></i>objective</li>");
        }
        if !self.bands.is_empty() {
            html.put(format_args!("<li><i class=\"key band\"></i>{}</li>", Escaped(self.bands_name)));
        }
        html.raw("</ul>\n");
    }

    fn write_tick_names(&self, html: &mut Html) {
        html.raw("<div class=\"y\" aria-hidden=\"true\">");
        for tick in &self.y.ticks {
            html.put(format_args!("<span style=\"bottom:{:.2}%\">{}</span>", tick.place * 100.0, Escaped(&tick.label)));
        }
        html.raw("</div>\n<div class=\"x\" aria-hidden=\"true\">");
        for tick in &self.x.ticks {
            html.put(format_args!("<span style=\"left:{:.2}%\">{}</span>", tick.place * 100.0, Escaped(&tick.label)));
        }
        html.raw("</div>\n");
    }

    fn write_drawing(&self, html: &mut Html) {
        html.put(format_args!(
            "<svg viewBox=\"0 0 {SIDE} {SIDE}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}: {}\">\n<title>{}</title>\n",
            Escaped(self.name),
            Escaped(&self.caption),
            Escaped(self.name)
        ));
        for band in &self.bands {
            self.write_stretch(html, "band", band.from, band.to);
            html.put(format_args!(" opacity=\"{:.2}\"/>\n", band.strength));
        }
        self.write_grid(html);
        if let Some(line) = self.lines.first().filter(|_| self.area) {
            for run in runs(&line.points) {
                self.write_area(html, line.class, run);
            }
        }
        for wall in &self.walls {
            self.write_wall(html, wall);
        }
        for line in &self.lines {
            self.write_line(html, line);
        }
        for hit in &self.hits {
            self.write_stretch(html, "hit", hit.from, hit.to);
            html.put(format_args!("><title>{}</title></rect>\n", Escaped(&hit.text)));
        }
        html.raw("</svg>\n");
    }

    fn write_grid(&self, html: &mut Html) {
        html.raw("<path class=\"grid\" d=\"");
        for tick in &self.y.ticks {
            html.put(format_args!("M0 {:.1}H{SIDE}", down(tick.place)));
        }
        for tick in &self.x.ticks {
            html.put(format_args!("M{:.1} 0V{SIDE}", tick.place * SIDE));
        }
        html.put(format_args!("\"/>\n<path class=\"edge\" d=\"M0 0V{SIDE}H{SIDE}\"/>\n"));
    }

    /// A rectangle of full height, left open for what follows.
    fn write_stretch(&self, html: &mut Html, class: &'static str, from: f64, to: f64) {
        let (from, to) = (self.x.place(from) * SIDE, self.x.place(to) * SIDE);
        let width = (to - from).max(0.0);
        html.put(format_args!(
            "<rect class=\"{class}\" x=\"{from:.1}\" y=\"0\" width=\"{width:.1}\" height=\"{SIDE}\""
        ));
    }

    fn write_area(&self, html: &mut Html, class: &'static str, run: &[Option<(f64, f64)>]) {
        let mut last = 0.0;
        for (at, (x, y)) in run.iter().flatten().map(|point| self.on_drawing(*point)).enumerate() {
            if at == 0 {
                html.put(format_args!("<path class=\"area {class}\" d=\"M{x:.1} {SIDE}"));
            }
            html.put(format_args!("L{x:.1} {y:.1}"));
            last = x;
        }
        html.put(format_args!("L{last:.1} {SIDE}Z\"/>\n"));
    }

    /// A point alone is a line of no length: its round cap is a dot.
    fn write_line(&self, html: &mut Html, line: &Line) {
        html.put(format_args!("<path class=\"line {}\" d=\"", line.class));
        for run in runs(&line.points) {
            for (at, (x, y)) in run.iter().flatten().map(|point| self.on_drawing(*point)).enumerate() {
                let step = if at == 0 { 'M' } else { 'L' };
                html.put(format_args!("{step}{x:.1} {y:.1}"));
            }
            if run.len() == 1 {
                html.raw("h0");
            }
        }
        html.raw("\"/>\n");
    }

    fn write_wall(&self, html: &mut Html, wall: &Wall) {
        let (x, y) = (wall.until.map_or(1.0, |until| self.x.place(until)) * SIDE, down(self.y.place(wall.y)));
        let class = if wall.met { "wall" } else { "wall missed" };
        html.put(format_args!("<path class=\"{class}\" d=\"M0 {y:.1}H{x:.1}"));
        if wall.until.is_some() {
            html.raw("V0");
        }
        html.raw("\"/>\n");
    }

    /// The names of the limits, from the lowest up, each at the corner of its line and clear of the one below.
    fn write_wall_names(&self, html: &mut Html) {
        let mut walls: Vec<&Wall> = self.walls.iter().collect();
        walls.sort_by(|a, b| a.y.total_cmp(&b.y));
        let mut lowest = 0.0_f64;
        for wall in walls.into_iter().take(NAMES_MAX) {
            let place = self.y.place(wall.y).max(lowest).min(1.0);
            lowest = place + NAME_HEIGHT;
            let corner = wall.until.map_or(1.0, |until| self.x.place(until));
            let (side, from_side) = if corner < NAME_TURNS { ("left", corner) } else { ("right", 1.0 - corner) };
            let (class, mark) = if wall.met { ("wallname", "met") } else { ("wallname missed", "missed") };
            html.put(format_args!(
                "<span class=\"{class}\" style=\"bottom:{:.2}%;{side}:{:.2}%\">{} <b>{mark}</b></span>\n",
                place * 100.0,
                from_side * 100.0,
                Escaped(&wall.name)
            ));
        }
    }

    fn on_drawing(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.x.place(x) * SIDE, down(self.y.place(y)))
    }
}

/// A place counted from below as a position counted from above.
fn down(place: f64) -> f64 {
    (1.0 - place) * SIDE
}

/// The stretches of points without an interruption.
fn runs(points: &[Option<(f64, f64)>]) -> impl Iterator<Item = &[Option<(f64, f64)>]> {
    points.split(Option::is_none).filter(|run| !run.is_empty())
}
