//! The figures of `bench ipc --peers` as a plot: one bar for each way to make a call, on a logarithmic axis, in a group for each
//! placement.

use std::fmt::Write as _;

use serde_json::Value;
use xtask::Failure;

use crate::figures::{parse, time};

/// A bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    group: String,
    name: String,
    ns: f64,
    ratio: f64,
}

/// The axis, in ns.
const FROM: f64 = 50.0;
const TO: f64 = 1e6;
// Everything below in pixels.
const NAMES: f64 = 190.0;
const BARS: f64 = 520.0;
const FIGURES: f64 = 150.0;
const ROW: f64 = 20.0;
const GROUP: f64 = 42.0;
const MARGIN: f64 = 16.0;

/// Reads what the benchmark has printed.
pub fn bars(lines: &[String]) -> Result<Vec<Bar>, Failure> {
    lines.iter().map(|line| bar(&parse(line)?).ok_or_else(|| format!("a figure is missing in {line}").into())).collect()
}

fn bar(line: &Value) -> Option<Bar> {
    let text = |key: &str| line.get(key).and_then(Value::as_str);
    let number = |key: &str| line.get(key).and_then(Value::as_f64);
    let waits = if text("wait")? == "spin" { "both sides spin" } else { "both sides sleep" };
    let distance = match text("distance")? {
        "-" => String::new(),
        "mixed" => " now near to each other and now far".to_owned(),
        distance => format!(" {distance} to each other"),
    };
    Some(Bar {
        group: format!("{}{distance}, {waits}", text("placement")?),
        name: format!("{}, {}", text("case")?, text("message")?),
        ns: number("p50_ns")?,
        ratio: number("ratio")?,
    })
}

/// Where a time lies on the axis.
fn x(ns: f64) -> f64 {
    NAMES + BARS * (ns.clamp(FROM, TO) / FROM).ln() / (TO / FROM).ln()
}

fn color(name: &str) -> &'static str {
    match name {
        _ if name.starts_with("limit") => "#8a8f98",
        _ if name.starts_with("shm-rpc") => "#1f6feb",
        _ => "#d0a35c",
    }
}

/// Draws them as an SVG document.
pub fn draw(bars: &[Bar]) -> String {
    let mut groups: Vec<&str> = Vec::new();
    for bar in bars {
        if !groups.contains(&bar.group.as_str()) {
            groups.push(&bar.group);
        }
    }
    let width = NAMES + BARS + FIGURES;
    let height = 2.0 * MARGIN + GROUP * (groups.len() as f64 + 1.0) + ROW * bars.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>A request and its answer between two processes, p50</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"{MARGIN}\" y=\"{}\" font-size=\"15\" fill=\"#1c2128\">A request and its answer between two processes: p50, and how often the limit goes into it</text>\n",
        MARGIN + 15.0
    );
    let mut y = MARGIN + GROUP;
    let mut decade = 100.0;
    while decade <= TO {
        let at = x(decade);
        let _ = write!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{y}\" y2=\"{:.1}\" stroke=\"#e3e6ea\"/>\n\
             <text x=\"{at:.1}\" y=\"{y}\" fill=\"#57606a\" text-anchor=\"middle\">{}</text>\n",
            height - MARGIN,
            time(decade)
        );
        decade *= 10.0;
    }
    for group in groups {
        y += GROUP;
        let _ = writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"{:.1}\" font-weight=\"bold\" fill=\"#1c2128\">{}</text>",
            y - 12.0,
            escaped(group)
        );
        for bar in bars.iter().filter(|it| it.group == group) {
            let (end, base) = (x(bar.ns), y + 11.0);
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{base:.1}\" text-anchor=\"end\" fill=\"#1c2128\">{}</text>\n\
                 <rect x=\"{NAMES}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"14\" fill=\"{}\"/>\n\
                 <text x=\"{:.1}\" y=\"{base:.1}\" fill=\"#1c2128\">{} · {:.1} ×</text>\n",
                NAMES - 8.0,
                escaped(&bar.name),
                end - NAMES,
                color(&bar.name),
                end + 6.0,
                time(bar.ns),
                bar.ratio
            );
            y += ROW;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_times_have_longer_bars_in_the_group_of_their_placement() {
        let line = |case: &str, placement: &str, distance: &str, ns: u32| {
            format!(
                "{{\"case\":\"{case}\",\"message\":\"32 B\",\"wait\":\"spin\",\"placement\":\"{placement}\",\
                 \"distance\":\"{distance}\",\"p50_ns\":{ns},\"ratio\":1.5}}"
            )
        };
        let lines = [
            line("limit-spin", "two cores", "near", 100),
            line("a<b", "two cores", "near", 1000),
            line("pipe", "one core", "-", 10_000),
        ];
        let bars = bars(&lines).unwrap();
        assert_eq!(bars[0].group, "two cores near to each other, both sides spin");
        let svg = draw(&bars);
        let widths: Vec<f64> = svg
            .lines()
            .filter_map(|it| it.strip_prefix(&format!("<rect x=\"{NAMES}\""))?.split("width=\"").nth(1))
            .map(|it| it.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(widths.len(), 3);
        assert!((widths[2] - widths[1] - (widths[1] - widths[0])).abs() < 0.2, "decades are equally long: {widths:?}");
        assert_eq!(svg.matches("font-weight=\"bold\"").count(), 2);
        assert!(svg.contains("a&lt;b") && svg.contains("10 µs · 1.5 ×") && svg.ends_with("</svg>\n"));
        assert!(super::bars(&["{}".to_owned()]).is_err());
    }
}
