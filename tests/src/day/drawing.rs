//! Curves as SVG: a function from numbers to text.

use std::fmt::Write;

use super::scale::{ticks, written};

/// Panels of one picture, with one axis of time.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    /// What it shows, for who cannot see it.
    pub(super) title: String,
    /// One below the other.
    pub(super) panels: Vec<Panel>,
}

/// What is measured alike.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    /// What is measured.
    pub(super) title: String,
    /// In which unit.
    pub(super) unit: String,
    /// Its curves, [`COLOURS`] at most.
    pub(super) lines: Vec<Line>,
}

/// One curve.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// What the legend calls it.
    pub(super) name: String,
    /// Minutes and values, in the order of time.
    pub(super) points: Vec<(f64, f64)>,
}

/// Curves that can be told apart, on light and on dark ground: two colours of each.
const COLOURS: [(&str, &str); 6] = [
    ("#0969da", "#58a6ff"),
    ("#bc4c00", "#f0883e"),
    ("#1a7f37", "#3fb950"),
    ("#8250df", "#bc8cff"),
    ("#bf3989", "#f778ba"),
    ("#6e7781", "#8b949e"),
];

/// Points of a curve that are drawn. Of more, every second, third and so on is.
const POINTS_MAX: usize = 240;

/// Ticks of an axis, that at 0 not counted.
const VALUE_TICKS_MAX: usize = 4;
const MINUTE_TICKS_MAX: usize = 6;

/// Sizes, in units of the picture.
const WIDTH: f64 = 1200.0;
const PANEL_HEIGHT: f64 = 210.0;
const LEFT: f64 = 80.0;
const PLOT_WIDTH: f64 = 800.0;
const PLOT_TOP: f64 = 34.0;
const PLOT_HEIGHT: f64 = 140.0;
const LEGEND: f64 = LEFT + PLOT_WIDTH + 24.0;
const LEGEND_LINE: f64 = 24.0;

/// The picture as a file.
#[must_use]
pub(super) fn svg(picture: &Picture) -> String {
    let mut out = String::new();
    write_picture(&mut out, picture).expect("a String takes all");
    out
}

fn write_picture(out: &mut String, picture: &Picture) -> std::fmt::Result {
    #[allow(clippy::cast_precision_loss, reason = "a handful")]
    let height = PANEL_HEIGHT * picture.panels.len() as f64;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">"
    )?;
    writeln!(out, "<title>{}</title>", escaped(&picture.title))?;
    write_style(out)?;
    let all = picture.panels.iter().flat_map(|panel| &panel.lines).flat_map(|line| &line.points);
    let minutes = ticks(all.map(|(minute, _)| *minute).fold(0.0, f64::max), MINUTE_TICKS_MAX);
    let mut top = 0.0;
    for panel in &picture.panels {
        writeln!(out, "<g transform=\"translate({LEFT} {})\">", top + PLOT_TOP)?;
        write_panel(out, panel, &minutes)?;
        writeln!(out, "</g>")?;
        top += PANEL_HEIGHT;
    }
    writeln!(out, "</svg>")
}

fn write_style(out: &mut String) -> std::fmt::Result {
    writeln!(out, "<style>")?;
    writeln!(out, "text{{font:15px sans-serif;fill:#57606a}}.t{{font-weight:600;fill:#1f2328}}")?;
    writeln!(out, ".e{{text-anchor:end}}.m{{text-anchor:middle}}.g{{stroke:#d0d7de}}")?;
    writeln!(out, "path{{fill:none;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}}")?;
    for (index, (light, _)) in COLOURS.iter().enumerate() {
        writeln!(out, ".c{index}{{stroke:{light}}}")?;
    }
    writeln!(out, "@media(prefers-color-scheme:dark){{")?;
    writeln!(out, "text{{fill:#9198a1}}.t{{fill:#f0f6fc}}.g{{stroke:#3d444d}}")?;
    for (index, (_, dark)) in COLOURS.iter().enumerate() {
        writeln!(out, ".c{index}{{stroke:{dark}}}")?;
    }
    writeln!(out, "}}\n</style>")
}

/// The plot's upper left corner is at 0, 0.
fn write_panel(out: &mut String, panel: &Panel, minutes: &[f64]) -> std::fmt::Result {
    assert!(panel.lines.len() <= COLOURS.len(), "{} has more curves than there are colours", panel.title);
    let all = panel.lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
    let values = ticks(all.fold(0.0, f64::max), VALUE_TICKS_MAX);
    let last = |ticks: &[f64]| ticks.last().copied().unwrap_or(1.0);
    let across = |minute: f64| minute / last(minutes) * PLOT_WIDTH;
    let down = |value: f64| PLOT_HEIGHT - value / last(&values) * PLOT_HEIGHT;
    writeln!(out, "<text class=\"t\" x=\"0\" y=\"-12\">{}</text>", escaped(&panel.title))?;
    writeln!(out, "<text class=\"e\" x=\"-10\" y=\"-12\">{}</text>", escaped(&panel.unit))?;
    for tick in &values {
        let y = down(*tick);
        writeln!(out, "<line class=\"g\" x1=\"0\" y1=\"{y:.0}\" x2=\"{PLOT_WIDTH}\" y2=\"{y:.0}\"/>")?;
        writeln!(out, "<text class=\"e\" x=\"-10\" y=\"{:.0}\">{}</text>", y + 5.0, written(*tick))?;
    }
    for (index, tick) in minutes.iter().enumerate() {
        let unit = if index + 1 == minutes.len() { " min" } else { "" };
        let (x, y) = (across(*tick), PLOT_HEIGHT + 20.0);
        writeln!(out, "<text class=\"m\" x=\"{x:.0}\" y=\"{y}\">{}{unit}</text>", written(*tick))?;
    }
    let mut legend = 6.0;
    for (index, line) in panel.lines.iter().enumerate() {
        let points = line.points.iter().map(|(minute, value)| (across(*minute), down(*value)));
        let points: Vec<_> = points.collect();
        if !points.is_empty() {
            writeln!(out, "<path class=\"c{index}\" d=\"{}\"/>", path(&thinned(&points)))?;
        }
        let x = LEGEND - LEFT;
        writeln!(out, "<path class=\"c{index}\" d=\"M{x} {legend}h24\"/>")?;
        writeln!(out, "<text x=\"{}\" y=\"{}\">{}</text>", x + 32.0, legend + 5.0, escaped(&line.name))?;
        legend += LEGEND_LINE;
    }
    Ok(())
}

/// Every n-th point, and always the last.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(POINTS_MAX).max(1);
    points.iter().rev().step_by(every).rev().copied().collect()
}

/// Whole units, each point told by how far it lies from the one before: few digits. A single point is a dot.
fn path(points: &[(f64, f64)]) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "it is on the picture")]
    let whole = |(x, y): &(f64, f64)| (x.round() as i64, y.round() as i64);
    let mut out = String::new();
    let mut before = None;
    for point in points {
        let (x, y) = whole(point);
        let step = match before {
            None => format!("M{x} {y}{}", if points.len() == 1 { "h0" } else { "l" }),
            // A sign divides as a space does.
            Some((x_before, y_before)) => {
                let (x, y) = (x - x_before, y - y_before);
                let divided = if out.ends_with('l') { "" } else { " " };
                format!("{divided}{x}{}{y}", if y < 0 { "" } else { " " })
            }
        };
        out.push_str(&step);
        before = Some((x, y));
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(panels: usize, lines: usize, points: u32) -> Picture {
        let line = |number: usize| {
            // As uneven as times of answers are.
            let value = |minute: u32| f64::from((minute * 7_919 + number as u32 * 104_729) % 1_000);
            let points = (0..points).map(|point| (f64::from(point) / 4.0, value(point)));
            Line { name: format!("line {number}"), points: points.collect() }
        };
        let panel = |number| Panel {
            title: format!("Panel {number}"),
            unit: "ms".to_owned(),
            lines: (0..lines).map(line).collect(),
        };
        Picture { title: "A & B < C".to_owned(), panels: (0..panels).map(panel).collect() }
    }

    fn count(text: &str, part: &str) -> usize {
        text.matches(part).count()
    }

    #[test]
    fn a_panel_has_its_title_unit_ticks_curves_and_legend() {
        let drawn = svg(&picture(1, 2, 241));
        for part in [
            "<title>A &amp; B &lt; C</title>",
            ">Panel 0</text>",
            ">ms</text>",
            ">1000</text>",
            ">0</text>",
            ">60 min</text>",
            ">line 0</text>",
            ">line 1</text>",
            "class=\"c1\"",
            "prefers-color-scheme:dark",
        ] {
            assert!(drawn.contains(part), "{part} is not in {drawn}");
        }
        assert_eq!(count(&drawn, "<path"), 4, "two curves and their signs in the legend");
        assert_eq!(count(&drawn, "<g"), count(&drawn, "</g>"));
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    }

    #[test]
    fn a_value_lies_where_its_axis_says() {
        // Ticks are 0, 5, 10 and 0, 20, 40, 60: 30 minutes are half of the width, 5 half of the height.
        let points = vec![(0.0, 0.0), (30.0, 5.0), (60.0, 10.0)];
        let line = Line { name: "line".to_owned(), points };
        let panel = Panel { title: "t".to_owned(), unit: "u".to_owned(), lines: vec![line] };
        let drawn = svg(&Picture { title: "p".to_owned(), panels: vec![panel] });
        assert!(drawn.contains("d=\"M0 140l400-70 400-70\""), "{drawn}");
    }

    #[test]
    fn nothing_and_a_single_point_are_drawn_too() {
        let empty = svg(&picture(1, 2, 0));
        assert_eq!(count(&empty, "<path"), 2, "the legend alone");
        let single = svg(&picture(1, 1, 1));
        assert!(single.contains("h0\""), "{single}");
        assert_eq!(count(&svg(&picture(0, 0, 0)), "<svg"), 1);
    }

    #[test]
    fn a_picture_is_a_small_file_of_few_lines_however_long_it_took() {
        for points in [240, 2_400] {
            let drawn = svg(&picture(9, 3, points));
            assert!(drawn.len() <= 60 * 1024, "{} bytes of {points} points", drawn.len());
            assert!(drawn.lines().count() < 500, "{} lines", drawn.lines().count());
        }
    }

    #[test]
    fn of_many_points_every_nth_is_drawn_and_the_last() {
        let points: Vec<_> = (0..1_000).map(|point| (f64::from(point), 0.0)).collect();
        let drawn = thinned(&points);
        assert!(drawn.len() <= POINTS_MAX && drawn.len() > POINTS_MAX / 2, "{}", drawn.len());
        assert_eq!(drawn.last(), points.last());
        assert_eq!(thinned(&points[..7]), points[..7]);
    }
}
