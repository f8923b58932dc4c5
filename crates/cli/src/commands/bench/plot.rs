//! `plot`: small charts side by side as one SVG, over sizes that grow tenfold. Readable on a light and on a dark page.

use std::fmt::Write as _;

/// One chart.
pub(super) struct Panel {
    /// What is shown.
    pub(super) title: &'static str,
    /// A value for each size.
    pub(super) values: Vec<f64>,
}

/// A chart's width and height, and how much of it is around the lines.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 190.0;
const MARGIN: f64 = 34.0;
const COLUMNS: usize = 3;

/// Draws all panels; each scale begins at zero, so that flat looks flat.
pub(super) fn plot(keys: &[u64], panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#808080\">\n"
    );
    for (at, panel) in panels.iter().enumerate() {
        let (x, y) = ((at % COLUMNS) as f64 * WIDTH, (at / COLUMNS) as f64 * HEIGHT);
        draw(keys, panel, (x, y), &mut svg);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(keys: &[u64], panel: &Panel, (left, top): (f64, f64), svg: &mut String) {
    let highest = panel.values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let (inner_width, inner_height) = (WIDTH - 2.0 * MARGIN, HEIGHT - 2.0 * MARGIN);
    let steps = keys.len().saturating_sub(1).max(1) as f64;
    let (bottom, right) = (top + MARGIN + inner_height, left + MARGIN + inner_width);
    let place = |at: usize, value: f64| {
        (left + MARGIN + inner_width * at as f64 / steps, bottom - inner_height * 0.85 * value / highest)
    };
    let points: Vec<(f64, f64)> = panel.values.iter().enumerate().map(|(at, value)| place(at, *value)).collect();
    let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let middle = left + WIDTH / 2.0;
    // Writing to text cannot fail.
    let _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>",
        top + 18.0,
        panel.title
    );
    let _ = writeln!(svg, "<path d=\"M{} {bottom}H{right}\" stroke=\"#808080\" fill=\"none\"/>", left + MARGIN);
    let _ =
        writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"#2f81f7\" stroke-width=\"2\"/>", line.join(" "));
    for (((x, y), value), keys) in points.iter().zip(&panel.values).zip(keys) {
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#2f81f7\"/>");
        let _ =
            writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", y - 7.0, short(*value));
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 14.0,
            power(*keys)
        );
    }
}

/// As many digits as tell something.
fn short(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{:.1}k", value / 1000.0),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn power(keys: u64) -> String {
    match keys {
        keys if keys >= 1_000_000 => format!("{}M", keys / 1_000_000),
        keys => format!("{}k", keys / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([12_345.6, 999.6, 12.34, 1.234].map(short), ["12.3k", "1000", "12.3", "1.23"]);
        assert_eq!([10_000, 100_000, 10_000_000].map(power), ["10k", "100k", "10M"]);
    }

    #[test]
    fn equal_values_lie_on_a_level() {
        let svg = plot(&[10_000, 100_000], &[Panel { title: "t", values: vec![5.0, 5.0] }]);
        let heights: Vec<&str> = svg.split("cy=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(heights.len(), 2);
        assert_eq!(heights[0], heights[1]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}
