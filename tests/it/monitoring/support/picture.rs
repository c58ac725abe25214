//! Draws the dashboard from the answers to its queries, panel by panel in their places. It shows the data, not
//! Grafana.

use std::collections::BTreeMap;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::monitoring::dashboard::Query;
use crate::monitoring::live::Answered;
use crate::monitoring::support::compact_svg::compact;
use crate::monitoring::support::prometheus::Series;

/// Pixels of one column and one row of the grid.
const CELL: (u32, u32) = (58, 30);
const GAP: i32 = 4;
/// Points of a line.
const POINTS: usize = 36;
/// Pixels that a letter and a line of the legend take.
const LETTER: i32 = 6;
const LINE: i32 = 14;

const PAPER: RGBColor = RGBColor(244, 245, 245);
const CARD: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(36, 41, 46);
const FAINT: RGBColor = RGBColor(225, 227, 230);
const PALETTE: [RGBColor; 10] = [
    RGBColor(86, 166, 75),
    RGBColor(242, 166, 35),
    RGBColor(50, 116, 217),
    RGBColor(224, 47, 68),
    RGBColor(143, 59, 184),
    RGBColor(32, 165, 173),
    RGBColor(250, 100, 0),
    RGBColor(124, 124, 134),
    RGBColor(55, 135, 45),
    RGBColor(192, 132, 215),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;
/// A name, and a value at each moment of the picture.
type Line = (String, Vec<Option<f64>>);

pub fn draw(answered: &[Answered]) -> String {
    let mut svg = String::new();
    drawn(answered, &mut svg).unwrap();
    compact(&svg)
}

fn drawn(answered: &[Answered], svg: &mut String) -> Drawn {
    let rows = answered.iter().map(|it| it.panel.place.y + it.panel.place.h).max().unwrap_or_default();
    let root = SVGBackend::with_string(svg, (24 * CELL.0, rows * CELL.1)).into_drawing_area();
    root.fill(&PAPER)?;
    let moments = moments(answered);
    let end = moments[moments.len() - 1];
    for it in answered {
        let place = it.panel.place;
        let (x, y) = ((place.x * CELL.0) as i32, (place.y * CELL.1) as i32);
        let area = root.clone().shrink((x, y), (place.w * CELL.0, place.h * CELL.1));
        if it.panel.kind == "row" {
            let style = text(15).color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw_text(&it.panel.title, &style, (GAP * 2, (CELL.1 / 2) as i32))?;
            continue;
        }
        let area = area.margin(GAP, GAP, GAP, GAP);
        area.fill(&CARD)?;
        area.draw_text(&it.panel.title, &text(13).color(&INK), (8, 6))?;
        let body = area.margin(26, 4, 8, 8);
        match it.panel.kind.as_str() {
            "stat" => stat(&body, it, end)?,
            "table" => table(&body, it, end)?,
            _ => chart(body, it, &moments)?,
        }
    }
    root.present()?;
    drop(root);
    Ok(())
}

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_text_style(&(0, 0))
}

/// The seconds of the picture, evenly taken.
fn moments(answered: &[Answered]) -> Vec<f64> {
    let all = answered.iter().flat_map(|it| it.answers.iter().flatten()).flat_map(|series| &series.points);
    let seconds = all.map(|point| (point.0.round() as i64, point.0)).collect::<BTreeMap<_, _>>();
    let every = seconds.len().div_ceil(POINTS).max(1);
    seconds.into_values().step_by(every).collect()
}

/// The last value of each series that has one at the end, with its name; the largest first.
fn last(it: &Answered, end: f64) -> Vec<(String, f64)> {
    let queries = it.panel.queries.iter().zip(&it.answers);
    let all = queries.flat_map(|(query, answers)| answers.iter().map(move |series| (query, series)));
    let now = |series: &Series| series.points.last().filter(|point| point.0 > end - 2.0).map(|point| point.1);
    let mut values: Vec<_> =
        all.filter_map(|(query, series)| Some((name(query, series), now(series)?))).collect();
    values.sort_by(|a, b| b.1.total_cmp(&a.1));
    values
}

fn name(query: &Query, series: &Series) -> String {
    let labels = series.labels.iter().map(|(label, value)| (format!("{{{{{label}}}}}"), value));
    if query.legend.is_empty() {
        let values =
            series.labels.iter().filter(|label| label.0 != "namespace").map(|label| label.1.as_str());
        return values.collect::<Vec<_>>().join("  ");
    }
    let name = labels.fold(query.legend.clone(), |legend, (label, value)| legend.replace(&label, value));
    // A label that is empty is no label.
    name.split("{{").map(|part| part.split_once("}}").map_or(part, |(_, after)| after)).collect()
}

fn stat(area: &Area, it: &Answered, end: f64) -> Drawn {
    let (width, height) = area.dim_in_pixel();
    let values = last(it, end);
    let count = values.len().max(1) as i32;
    let style =
        text(if count > 1 { 22 } else { 34 }).color(&PALETTE[2]).pos(Pos::new(HPos::Center, VPos::Center));
    for (at, (name, value)) in values.iter().enumerate() {
        let y = (height as i32 * (2 * at as i32 + 1)) / (2 * count);
        let reported = format!("{} {name}", shown(*value, &it.panel.unit));
        area.draw_text(reported.trim(), &style, (width as i32 / 2, y))?;
    }
    Ok(())
}

fn table(area: &Area, it: &Answered, end: f64) -> Drawn {
    for (at, (name, value)) in last(it, end).iter().enumerate() {
        let y = 4 + at as i32 * 20;
        area.draw_text(name, &text(12).color(&INK), (10, y))?;
        let right = text(12).color(&INK).pos(Pos::new(HPos::Right, VPos::Top));
        area.draw_text(&shown(*value, &it.panel.unit), &right, (area.dim_in_pixel().0 as i32 - 14, y))?;
    }
    Ok(())
}

fn lines(it: &Answered, moments: &[f64]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (query, answers) in it.panel.queries.iter().zip(&it.answers) {
        for series in answers {
            let at: BTreeMap<_, _> =
                series.points.iter().map(|point| (point.0.round() as i64, point.1)).collect();
            let values = moments.iter().map(|second| at.get(&(second.round() as i64)).copied());
            lines.push((name(query, series), values.collect()));
        }
    }
    let size = |line: &Line| line.1.iter().flatten().sum::<f64>();
    lines.sort_by(|a, b| size(b).total_cmp(&size(a)));
    if it.panel.stacked {
        let mut below = vec![0.0; moments.len()];
        for (_, values) in &mut lines {
            for (value, below) in values.iter_mut().zip(&mut below) {
                *below += value.unwrap_or_default();
                *value = Some(*below);
            }
        }
    }
    lines
}

fn chart(area: Area, it: &Answered, moments: &[f64]) -> Drawn {
    let lines = lines(it, moments);
    let (places, height) = legend(&lines, area.dim_in_pixel().0 as i32);
    let (area, below) = area.split_vertically(area.dim_in_pixel().1 as i32 - height);
    let (first, end) = (moments[0], moments[moments.len() - 1]);
    let highest =
        lines.iter().flat_map(|line| &line.1).flatten().fold(0.0_f64, |high, value| high.max(*value));
    let top = if highest > 0.0 { highest * 1.1 } else { 1.0 };
    let mut chart = ChartBuilder::on(&area)
        .x_label_area_size(18)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..end - first, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(FAINT)
        .label_style(text(11).color(&INK))
        .x_labels(4)
        .y_labels(4)
        .x_label_formatter(&|second| format!("{}:{:02}", (second / 60.0) as u32, *second as u32 % 60))
        .y_label_formatter(&|value| shown(*value, &it.panel.unit))
        .draw()?;
    for (at, (_, values)) in lines.iter().enumerate().rev() {
        let color = PALETTE[at % PALETTE.len()];
        for run in runs(moments, values, first) {
            if it.panel.stacked {
                chart.draw_series(AreaSeries::new(run, 0.0, mixed(color)))?;
            } else {
                chart.draw_series(LineSeries::new(run, color.stroke_width(1)))?;
            }
        }
    }
    for (at, ((name, _), (x, y))) in lines.iter().zip(places).enumerate() {
        let color = PALETTE[at % PALETTE.len()];
        below.draw(&Rectangle::new([(x, y + 4), (x + 9, y + 8)], color.filled()))?;
        below.draw_text(name, &text(11).color(&INK), (x + 13, y))?;
    }
    Ok(())
}

/// Where each name goes, in lines, and how high that is.
fn legend(lines: &[Line], width: i32) -> (Vec<(i32, i32)>, i32) {
    let (mut x, mut y) = (8, 4);
    let mut places = Vec::new();
    for (name, _) in lines {
        let wide = 24 + name.len() as i32 * LETTER;
        if x > 8 && x + wide > width {
            (x, y) = (8, y + LINE);
        }
        places.push((x, y));
        x += wide;
    }
    (places, y + LINE)
}

/// Of a stack each area hides those behind it.
fn mixed(color: RGBColor) -> RGBColor {
    let pale = |part: u8| 255 - (255 - part) / 3 * 2;
    RGBColor(pale(color.0), pale(color.1), pale(color.2))
}

/// The stretches of a line that have values.
fn runs(moments: &[f64], values: &[Option<f64>], first: f64) -> Vec<Vec<(f64, f64)>> {
    let points: Vec<_> = moments.iter().zip(values).map(|(at, value)| (at - first, *value)).collect();
    let runs = points.split(|point| point.1.is_none()).filter(|run| !run.is_empty());
    runs.map(|run| run.iter().filter_map(|(at, value)| Some((*at, (*value)?))).collect()).collect()
}

fn shown(value: f64, unit: &str) -> String {
    let number = |value: f64| {
        let digits = if value.fract() == 0.0 || value >= 100.0 {
            0
        } else if value >= 1.0 {
            1
        } else {
            2
        };
        format!("{value:.digits$}")
    };
    match unit {
        "percentunit" => format!("{} %", number(value * 100.0)),
        "s" if value == 0.0 => "0".into(),
        "s" if value < 1.0 => format!("{} ms", number(value * 1000.0)),
        "s" => format!("{} s", number(value)),
        "bytes" => format!("{} MiB", number(value / 1_048_576.0)),
        "cps" | "reqps" => format!("{}/s", number(value)),
        _ => number(value),
    }
}
