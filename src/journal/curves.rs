//! The curves of a journal as a picture that browsers show (SVG).

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::error::{Cause, JournalError};
use super::{Column, ColumnKind, table};

/// More points than this are joined, neighbour with neighbour, by their means.
const MOST_POINTS: usize = 512;
const WIDTH: u32 = 900;
/// Height of the curves of one kind.
const HEIGHT: u32 = 300;
/// Colours that people who see no red or no green tell apart (Okabe and Ito 2008).
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// Draws the curves of a table: losses, metrics and learning rates, each kind by itself, over the epochs. Gives the
/// text of the picture.
///
/// # Errors
/// Where the file is no table of these columns, or holds nothing to be drawn.
pub fn draw(path: &Path, columns: &[Column], title: &str) -> Result<String, JournalError> {
    let mut curves: Vec<Curve> = columns.iter().map(|column| Curve::new(column.clone())).collect();
    table::read(path, columns, |row| {
        for (curve, value) in curves.iter_mut().zip(&row.values) {
            if let Some(value) = value.filter(|value| value.is_finite() && row.epoch.is_finite()) {
                curve.add(row.epoch, value);
            }
        }
    })?;
    curves.retain(|curve| !curve.points.is_empty() && curve.column.kind != ColumnKind::Figure);
    let failed = |message: String| JournalError::new(path, Cause::Drawing(message));
    if curves.is_empty() {
        return Err(failed("it holds no numbers".into()));
    }
    let mut text = String::new();
    let panels = by_kind(&curves);
    let height = HEIGHT * panels.len() as u32 + 40;
    paint(panels, height, title, &mut text).map_err(failed)?;
    Ok(text)
}

/// Draws one column of several tables, of runs that are to be compared: each by what it is called.
///
/// # Errors
/// Where a file is no table with such a column, or holds no number in it.
pub fn compare(runs: &[(&str, &Path)], column: &Column, title: &str) -> Result<String, JournalError> {
    let mut curves = vec![];
    for (name, path) in runs {
        let mut curve = Curve::new(Column::new(*name, column.kind));
        table::read_column(path, &column.name, |epoch, value| curve.add(epoch, value))?;
        if curve.points.is_empty() {
            let message = format!("it holds no numbers of {}", column.name);
            return Err(JournalError::new(path, Cause::Drawing(message)));
        }
        curves.push(curve);
    }
    let mut text = String::new();
    let failed =
        |message: String| JournalError::new(runs.first().map_or(Path::new(""), |run| run.1), Cause::Drawing(message));
    let (height, curves) = (HEIGHT + 120, curves.iter().collect());
    paint(vec![(column.name.as_str(), curves)], height, title, &mut text).map_err(failed)?;
    Ok(text)
}

/// Points of a column, thinned as they come.
pub(super) struct Curve {
    column: Column,
    /// Sums of epochs and values, and of how many.
    points: Vec<(f64, f64, usize)>,
    /// How many values a point is the mean of.
    each: usize,
}

impl Curve {
    pub(super) fn new(column: Column) -> Self {
        Self { column, points: vec![], each: 1 }
    }

    pub(super) fn add(&mut self, epoch: f64, value: f64) {
        match self.points.last_mut() {
            Some((epochs, values, count)) if *count < self.each => {
                (*epochs, *values, *count) = (*epochs + epoch, *values + value, *count + 1);
            }
            _ => self.points.push((epoch, value, 1)),
        }
        if self.points.len() == 2 * MOST_POINTS {
            let joined =
                |pair: &[(f64, f64, usize)]| (pair[0].0 + pair[1].0, pair[0].1 + pair[1].1, pair[0].2 + pair[1].2);
            self.points = self.points.chunks_exact(2).map(joined).collect();
            self.each *= 2;
        }
    }

    pub(super) fn means(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().map(|&(epochs, values, count)| (epochs / count as f64, values / count as f64))
    }
}

/// Curves of one kind, under their name.
type Panel<'a> = (&'a str, Vec<&'a Curve>);

fn by_kind(curves: &[Curve]) -> Vec<Panel<'_>> {
    let kinds = [(ColumnKind::Loss, "loss"), (ColumnKind::Metric, "metric"), (ColumnKind::Rate, "learning rate")];
    let of = |kind| curves.iter().filter(move |curve| curve.column.kind == kind).collect::<Vec<&Curve>>();
    kinds.into_iter().map(|(kind, name)| (name, of(kind))).filter(|(_, curves)| !curves.is_empty()).collect()
}

fn paint(panels: Vec<Panel<'_>>, height: u32, title: &str, text: &mut String) -> Result<(), String> {
    let page = SVGBackend::with_string(text, (WIDTH, height)).into_drawing_area();
    page.fill(&WHITE).map_err(|e| e.to_string())?;
    let page = page.titled(title, ("sans-serif", 22)).map_err(|e| e.to_string())?;
    for (area, (name, curves)) in page.split_evenly((panels.len(), 1)).iter().zip(&panels) {
        panel(area, name, curves).map_err(|e| e.to_string())?;
    }
    page.present().map_err(|e| e.to_string())
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn panel<'a>(area: &DrawingArea<SVGBackend<'a>, Shift>, name: &str, curves: &[&Curve]) -> Drawn<'a> {
    let points = || curves.iter().flat_map(|curve| curve.means());
    let (epochs, values) = (range(points().map(|(epoch, _)| epoch)), range(points().map(|(_, value)| value)));
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(epochs, values)?;
    let format = |value: &f64| format!("{:.4}", value).trim_end_matches('0').trim_end_matches('.').to_string();
    let exact = |value: &f64| if value.abs() < 0.01 && *value != 0.0 { format!("{value:.1e}") } else { format(value) };
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.1))
        .x_desc("epoch")
        .y_desc(name)
        .x_label_formatter(&format)
        .y_label_formatter(&exact)
        .label_style(("sans-serif", 13))
        .draw()?;
    for (curve, color) in curves.iter().zip(COLORS.iter().cycle()) {
        let style = color.stroke_width(2);
        let line = chart.draw_series(LineSeries::new(curve.means(), style))?;
        line.label(&curve.column.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        // A line of one point is none.
        if let (1, Some(point)) = (curve.points.len(), curve.means().next()) {
            chart.draw_series([Circle::new(point, 3, color.filled())])?;
        }
    }
    // Where curves are not: accuracies end high, losses low.
    let is_metric = curves.iter().any(|curve| curve.column.kind == ColumnKind::Metric);
    let place = if is_metric { SeriesLabelPosition::LowerRight } else { SeriesLabelPosition::UpperRight };
    chart
        .configure_series_labels()
        .position(place)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .label_font(("sans-serif", 13))
        .draw()
}

/// From the least to the largest, and some more where these are one.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    // Beyond this, differences are no numbers.
    let (low, high) = (low.max(-1e300), high.min(1e300));
    let room = match high - low {
        distance if distance > high.abs().max(low.abs()) * 1e-9 => distance * 0.03,
        _ => high.abs().max(1e-3) * 0.5,
    };
    low - room..high + room
}
