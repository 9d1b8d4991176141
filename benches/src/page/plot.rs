//! Plots as SVG, drawn by hand: groups of points with their intervals, and bars.

use std::fmt::Write;

use crate::stats::Estimate;

/// Colours that are told apart by most eyes, on white and on black.
const COLOURS: [(&str, &str); 11] = [
    ("kio", "#d55e00"),
    ("limit", "#888888"),
    ("epoll", "#0072b2"),
    ("tokio-uring", "#56b4e9"),
    ("tokio", "#009e73"),
    ("monoio", "#cc79a7"),
    ("compio", "#e69f00"),
    ("glommio", "#8a6d3b"),
    ("haproxy", "#7a5195"),
    ("nginx", "#2f8f2f"),
    ("fio", "#a0522d"),
];

/// One name, one colour, in every plot.
fn colour(name: &str) -> &'static str {
    let found = COLOURS.iter().find(|(known, _)| name.starts_with(known));
    found.map_or("#444444", |(_, colour)| colour)
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 44.0;

/// A plot of groups: at each place of the axis a point a series.
pub struct Groups {
    /// What is above it.
    pub title: String,
    /// The places on the axis.
    pub places: Vec<String>,
    /// The series, each with a value a place, where it has one.
    pub series: Vec<(String, Vec<Option<Estimate>>)>,
    /// A line across, which values are compared with.
    pub line: Option<f64>,
}

/// The ends of an axis that holds these values, and the distance of its marks.
fn axis(least: f64, most: f64) -> (f64, f64, f64) {
    let span = (most - least).max(most.abs() * 1e-3).max(1e-9);
    let rough = span / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= rough).unwrap_or(10.0);
    let step = factor * power;
    let low = (least / step).floor() * step;
    (low, ((most / step).ceil() * step).max(low + step), step)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

struct Svg(String);

impl Svg {
    fn new(title: &str, height: f64) -> Self {
        let mut text = String::new();
        let _ = write!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <style>text {{ fill: #222 }} .grid {{ stroke: #8884; }} \
             @media (prefers-color-scheme: dark) {{ text {{ fill: #ddd }} }}</style>\n"
        );
        let mut svg = Self(text);
        svg.text(
            LEFT,
            22.0,
            "start",
            &format!("<tspan font-size=\"14\">{}</tspan>", escape(title)),
        );
        svg
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), style: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.0,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>"
        );
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

impl Groups {
    /// Draws it; nothing where there is no value.
    pub fn draw(&self) -> Option<String> {
        let values = || self.series.iter().flat_map(|(_, values)| values.iter().flatten());
        let finite = |v: &f64| v.is_finite();
        let all =
            || values().flat_map(|e| [e.low, e.median, e.high]).chain(self.line).filter(finite);
        values().next()?;
        let (low, high, step) =
            axis(all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max));
        let y =
            |value: f64| HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
        let mut svg = Svg::new(&self.title, HEIGHT);
        let digits = if step < 0.1 {
            2
        } else if step < 1.0 {
            1
        } else {
            0
        };
        for i in 0..=((high - low) / step).round() as usize {
            let value = low + i as f64 * step;
            svg.line((LEFT, y(value)), (WIDTH - RIGHT, y(value)), "class=\"grid\"");
            svg.text(LEFT - 8.0, y(value) + 4.0, "end", &format!("{value:.digits$}"));
        }
        if let Some(line) = self.line {
            let style = "stroke=\"#888\" stroke-dasharray=\"5 4\"";
            svg.line((LEFT, y(line)), (WIDTH - RIGHT, y(line)), style);
        }
        let group = (WIDTH - LEFT - RIGHT) / self.places.len() as f64;
        let gap = group * 0.8 / self.series.len() as f64;
        for (i, place) in self.places.iter().enumerate() {
            let middle = LEFT + group * (i as f64 + 0.5);
            svg.text(middle, HEIGHT - BOTTOM + 20.0, "middle", &escape(place));
            for (nth, (name, values)) in self.series.iter().enumerate() {
                let Some(e) = values[i].filter(|e| e.median.is_finite()) else { continue };
                let x = middle + (nth as f64 - (self.series.len() as f64 - 1.0) / 2.0) * gap;
                let colour = colour(name);
                let style = format!("stroke=\"{colour}\" stroke-width=\"2\"");
                svg.line((x, y(e.low)), (x, y(e.high)), &style);
                let _ = writeln!(
                    svg.0,
                    "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/>",
                    y(e.median)
                );
            }
        }
        for (nth, (name, _)) in self.series.iter().enumerate() {
            let (x, y) = (WIDTH - RIGHT + 16.0, TOP + 8.0 + nth as f64 * 20.0);
            let colour = colour(name);
            let _ = writeln!(svg.0, "<circle cx=\"{x}\" cy=\"{y}\" r=\"4\" fill=\"{colour}\"/>");
            svg.text(x + 12.0, y + 4.0, "start", &escape(name));
        }
        Some(svg.end())
    }
}

/// Bars, one a name, with the value beside each.
pub fn bars(title: &str, values: &[(String, f64)], digits: usize) -> Option<String> {
    let most = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    const ROW: f64 = 26.0;
    const NAMES: f64 = 110.0;
    let mut svg = Svg::new(title, TOP + ROW * values.len() as f64 + 10.0);
    for (i, (name, value)) in values.iter().enumerate() {
        let (y, width) = (TOP + ROW * i as f64, (WIDTH - NAMES - 90.0) * value.max(0.0) / most);
        svg.text(NAMES - 8.0, y + 14.0, "end", &escape(name));
        let _ = writeln!(
            svg.0,
            "<rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"18\" fill=\"{}\"/>",
            y,
            colour(name)
        );
        svg.text(NAMES + width + 8.0, y + 14.0, "start", &format!("{value:.digits$}"));
    }
    Some(svg.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_holds_its_values_with_a_few_round_marks() {
        for (least, most) in [(0.95, 1.25), (0.0, 123_456.0), (1.0, 1.0), (0.001, 0.0011)] {
            let (low, high, step) = axis(least, most);
            let near = most * 1e-9;
            assert!(low <= least + near && high >= most - near, "{low} {least} {most} {high}");
            let marks = ((high - low) / step).round();
            assert!((1.0..=12.0).contains(&marks), "{marks} marks");
        }
    }

    #[test]
    fn a_plot_has_a_point_for_each_value_and_none_for_what_is_missing() {
        let e = |median| Some(Estimate { median, low: median - 0.1, high: median + 0.1 });
        let plot = Groups {
            title: "a < b".into(),
            places: vec!["1".into(), "2".into()],
            series: vec![("x".into(), vec![e(1.0), None]), ("y".into(), vec![e(2.0), e(3.0)])],
            line: Some(1.0),
        };
        let svg = plot.draw().expect("there are values");
        assert_eq!(svg.matches("<circle").count(), 3 + 2, "points and legend");
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
        let none = Groups { series: vec![("x".into(), vec![None, None])], ..plot };
        assert!(none.draw().is_none());
        assert!(bars("t", &[("a".into(), 0.0)], 0).is_none());
        assert_eq!(bars("t", &[("a".into(), 1.0)], 0).unwrap().matches("<rect").count(), 1);
    }
}
