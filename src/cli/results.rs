//! What came out of a run, for people and for programs.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::engine::Engine;
use super::failure::{Failure, Result};
use super::inputs::shape_text;
use super::network::read_text;
use crate::artifact::Port;
use crate::classes::{Class, probabilities};
use crate::render::escape;
use crate::tensor::{NotFinite, Shape};

/// An output with more elements than this is described, not printed.
const PRINTED: usize = 4096;

/// One class of a ranking.
/// The outputs for one image.
pub(crate) struct ResultRow {
    /// Which input it is of.
    pub index: usize,
    pub name: String,
    /// By output: its values.
    pub values: Vec<Vec<f32>>,
    /// The best classes, where the network tells classes apart.
    pub classes: Option<Vec<Class>>,
}

/// What several rows of values say together: of `scores`, the mean of the distributions that they are or become by
/// softmax; of others, the mean. One row is what it is.
pub(crate) fn together(rows: &[&[f32]], are_scores: bool) -> Vec<f32> {
    if let [row] = rows {
        return row.to_vec();
    }
    let mut sums = vec![0f64; rows[0].len()];
    for row in rows {
        let values = if are_scores { probabilities(row) } else { row.to_vec() };
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(value));
    }
    sums.into_iter().map(|sum| (sum / rows.len() as f64) as f32).collect()
}

/// The classes of the ImageNet challenge, with where they are from.
const IMAGENET: &str = include_str!("imagenet.txt");

/// Class names, one a line: of a file, or those that netc has under the name `imagenet`.
pub(crate) fn read_labels(path: &Path) -> Result<Vec<String>> {
    if path == Path::new("imagenet") && !path.exists() {
        return Ok(IMAGENET.lines().filter(|l| !l.starts_with('#')).map(String::from).collect());
    }
    Ok(read_text(path)?.trim_end().lines().map(|l| l.trim().to_string()).collect())
}

/// As [`read_labels`], as many as the network has classes.
pub(crate) fn labels_of(path: &Path, engine: &Engine) -> Result<Vec<String>> {
    let labels = read_labels(path)?;
    let classes: usize = engine.outputs[0].shape[1..].iter().product();
    if labels.len() == classes {
        return Ok(labels);
    }
    let (path, count) = (path.display(), labels.len());
    Err(Failure::message(format!("--labels {path}: {count} names for the {classes} classes of {}", engine.name)))
}

impl ResultRow {
    /// The row for people: classes one a line, other outputs described.
    pub(crate) fn text(&self, outputs: &[Port]) -> String {
        let mut text = format!("{}\n", escape::name(&self.name));
        for class in self.classes.iter().flatten() {
            let label = class.label.clone().unwrap_or_else(|| format!("class {}", class.index));
            let _ = writeln!(text, "  {:>6.2} %  {}", class.probability * 100.0, escape::name(&label));
        }
        for (i, (port, values)) in outputs.iter().zip(&self.values).enumerate() {
            if i > 0 || self.classes.is_none() {
                let _ = writeln!(text, "  {}", describe(port, values));
            }
        }
        text
    }

    pub(crate) fn json(&self, outputs: &[Port]) -> Value {
        let mut values = Map::new();
        for (port, v) in outputs.iter().zip(&self.values) {
            values.insert(port.name.clone(), output_json(port, v));
        }
        let mut row = json!({ "input": self.name, "outputs": values });
        if let Some(classes) = &self.classes {
            let class = |c: &Class| json!({ "index": c.index, "label": c.label, "probability": c.probability });
            row["top"] = classes.iter().map(class).collect();
        }
        row
    }
}

/// The sizes of one image's values; of rows that were counted, and of an output whose first size counts no images, all.
fn sizes(port: &Port, values: &[f32]) -> Vec<usize> {
    let dims = port.dims_of(values.len());
    match dims.get(1..) {
        Some(image) if port.rows.is_none() && image.iter().product::<usize>() == values.len() => image.to_vec(),
        _ => dims,
    }
}

fn describe(port: &Port, values: &[f32]) -> String {
    let shape = shape_text(&sizes(port, values));
    if values.len() <= 8 {
        let values: Vec<String> = values.iter().map(|v| format!("{v:.6}")).collect();
        return format!("{} {shape}: {}", port.name, values.join(" "));
    }
    let (least, mean, most) = summary(values);
    format!("{} {shape}: {least:.4} to {most:.4}, mean {mean:.4}", port.name)
}

fn output_json(port: &Port, values: &[f32]) -> Value {
    let shape = sizes(port, values);
    let mut value = if values.len() <= PRINTED {
        json!({ "shape": shape, "values": values })
    } else {
        let (least, mean, most) = summary(values);
        json!({ "shape": shape, "min": least, "mean": mean, "max": most })
    };
    // JSON has no such numbers: they are `null` among the values.
    if let Some(odd) = NotFinite::among(values) {
        let first = position(port, values.len(), odd.first);
        value["not_finite"] = json!({ "nan": odd.nan, "infinite": odd.infinite, "first": first });
    }
    value
}

/// Where an element of a row's `count` values stands in the output: in one image's, where the output
/// has images.
pub(crate) fn position(port: &Port, count: usize, element: usize) -> Vec<usize> {
    let of_image = port.shape.get(1..).map(Shape::new).filter(|image| image.elements() == count);
    of_image.unwrap_or_else(|| Shape::new(port.shape.as_slice())).position(element)
}

fn summary(values: &[f32]) -> (f32, f64, f32) {
    let (least, most) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, m), &v| (l.min(v), m.max(v)));
    (least, values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classes::ranked;

    #[test]
    fn logits_and_distributions_rank_alike() {
        let labels = ["a", "b", "c"].map(String::from);
        let best = ranked(&[1.0, 3.0, 2.0], &labels, 2);
        assert_eq!(best.iter().map(|c| c.index).collect::<Vec<_>>(), [1, 2]);
        assert!((best[0].probability - 0.665_240_94).abs() < 1e-6);
        assert_eq!(best[0].label.as_deref(), Some("b"));
        assert_eq!(ranked(&[0.25, 0.25, 0.5], &[], 9)[0], Class { index: 2, label: None, probability: 0.5 });
    }

    #[test]
    fn several_rows_are_averaged_as_distributions_or_as_numbers() {
        let (logits, shares) = ([0.0, f32::ln(3.0)], [0.5, 0.5]);
        let mean = together(&[&logits, &shares], true);
        assert!((mean[0] - 0.375).abs() < 1e-6 && (mean[1] - 0.625).abs() < 1e-6, "{mean:?}");
        assert_eq!(together(&[&[1.0, 4.0], &[3.0, 8.0]], false), [2.0, 6.0]);
        assert_eq!(together(&[&[1.0, 4.0]], true), [1.0, 4.0]);
    }

    #[test]
    fn imagenet_has_a_thousand_classes() {
        let labels = read_labels(Path::new("imagenet")).unwrap();
        assert_eq!((labels.len(), labels[0].as_str(), labels[999].as_str()), (1000, "tench", "toilet tissue"));
    }

    #[test]
    fn extreme_values_do_not_overflow() {
        assert_eq!(probabilities(&[1e30, -1e30]), [1.0, 0.0]);
        assert!(ranked(&[f32::NAN, 1.0], &[], 2).len() == 2);
    }
}
