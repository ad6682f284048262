//! What ONNX has no fields for, as metadata of a model: how pictures become inputs, and what the
//! classes are called. [`super::export`] writes it, [`super::onnx`] reads it back.
//!
//! Anybody may have written or changed it. What does not fit the graph is left out: it says how a
//! network is used, not what it computes.

use std::collections::BTreeMap;

use super::onnx::proto::StringPair;
use crate::diagnostic::is_hidden;
use crate::ir::{Graph, Kind, NodeId};
use crate::preprocess::{Preprocess, Resize};

/// A JSON object: preprocessing by the name of its input.
const PREPROCESS: &str = "netc.preprocess";
/// A JSON list of strings.
const LABELS: &str = "netc.labels";

/// What a graph says.
pub(crate) fn write(graph: &Graph) -> Vec<StringPair> {
    let pair = |key: &str, value: serde_json::Value| StringPair { key: key.into(), value: value.to_string() };
    let steps = |&id: &NodeId| match &graph.node(id).kind {
        Kind::Input(Some(steps)) => Some((graph.node(id).name.clone()?, steps)),
        _ => None,
    };
    let preprocess: BTreeMap<String, &Preprocess> = graph.inputs().iter().filter_map(steps).collect();
    let steps = serde_json::to_value(&preprocess).ok().filter(|_| !preprocess.is_empty());
    let labels = (!graph.labels.is_empty()).then(|| graph.labels.clone().into());
    [steps.map(|s| pair(PREPROCESS, s)), labels.map(|l| pair(LABELS, l))].into_iter().flatten().collect()
}

/// Gives a graph, whose inputs have the model's names, what the metadata say of it.
pub(crate) fn read(pairs: &[StringPair], graph: &mut Graph) {
    let value = |key: &str| pairs.iter().find(|p| p.key == key).map(|p| p.value.as_str());
    let preprocess = value(PREPROCESS).and_then(|text| serde_json::from_str(text).ok());
    let mut preprocess: BTreeMap<String, Preprocess> = preprocess.unwrap_or_default();
    for id in graph.inputs().to_vec() {
        let node = graph.node(id);
        let steps = node.name.as_ref().and_then(|name| preprocess.remove(name));
        if let (Some(steps), Some([_, channels, height, width])) = (steps, node.shape.nchw()) {
            graph.set_preprocess(id, fitting(steps, channels, [height, width]));
        }
    }
    let labels = value(LABELS).and_then(|text| serde_json::from_str::<Vec<String>>(text).ok()).unwrap_or_default();
    // A label is one line, all of which is seen.
    graph.labels = labels.into_iter().map(|l| l.replace(|c| is_hidden(c) || c == '\n', " ")).collect();
}

/// The steps, where they are right for images of this size. A crop to another size, which an import
/// with a shape of its own leaves behind, goes with the resizing before it.
fn fitting(mut steps: Preprocess, channels: usize, size: [usize; 2]) -> Option<Preprocess> {
    let ends_elsewhere = match (steps.center_crop, steps.resize) {
        (Some(crop), _) => crop != size,
        (None, Some(Resize::Exact(exact))) => exact != size,
        (None, _) => false,
    };
    let image = [channels, size[0], size[1]];
    let is_wrong = steps.check(image).is_err_and(|wrong| matches!(wrong.step, "resize" | "center_crop"));
    if ends_elsewhere || is_wrong {
        (steps.resize, steps.center_crop) = (None, None);
    }
    steps.check(image).is_ok().then_some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Phase;
    use crate::preprocess::Color;

    fn image(shape: [usize; 4]) -> Graph {
        let mut graph = Graph::new("g", Phase::Infer);
        graph.add_input("x", shape.into(), None, None);
        graph
    }

    fn imagenet() -> Preprocess {
        Preprocess {
            resize: Some(Resize::ShorterSide(36)),
            center_crop: Some([32; 2]),
            scale: Some(1.0 / 255.0),
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            ..Preprocess::default()
        }
    }

    fn given(steps: &Preprocess, shape: [usize; 4]) -> Option<Preprocess> {
        let mut graph = image([1, 3, 32, 32]);
        let input = graph.inputs()[0];
        graph.set_preprocess(input, Some(steps.clone()));
        graph.labels = vec!["tench".into(), "two\nlines".into()];
        let mut other = image(shape);
        read(&write(&graph), &mut other);
        assert_eq!(other.labels, ["tench", "two lines"]);
        match &other.node(other.inputs()[0]).kind {
            Kind::Input(steps) => steps.clone(),
            Kind::Parameter(_) | Kind::Op(_) => None,
        }
    }

    #[test]
    fn what_is_written_is_read_back_where_it_fits() {
        assert_eq!(given(&imagenet(), [2, 3, 32, 32]), Some(imagenet()));
        // Other sizes: pictures are not cropped to what the network does not take.
        let larger = given(&imagenet(), [2, 3, 64, 64]).unwrap();
        assert_eq!((larger.resize, larger.center_crop, larger.mean.len()), (None, None, 3));
        assert_eq!(given(&imagenet(), [2, 1, 32, 32]), None);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let wrong = [
            Preprocess { mean: vec![1.0], ..imagenet() },
            Preprocess { std: vec![1.0, 0.0, 1.0], ..imagenet() },
            Preprocess { color: Color::Gray, ..imagenet() },
        ];
        assert!(wrong.iter().all(|steps| given(steps, [1, 3, 32, 32]).is_none()));
        let huge = Preprocess { resize: Some(Resize::ShorterSide(1 << 40)), ..imagenet() };
        assert_eq!(given(&huge, [1, 3, 32, 32]).unwrap().resize, None);
        let mut graph = image([1, 3, 4, 4]);
        for value in ["", "[1]", "{\"x\": {}}", "{\"x\": {\"scale\": 1e99}}"] {
            let pair = |key: &str| StringPair { key: key.into(), value: value.into() };
            read(&[pair(PREPROCESS), pair(LABELS)], &mut graph);
            assert_eq!((&graph.node(graph.inputs()[0]).kind, graph.labels.len()), (&Kind::Input(None), 0), "{value}");
        }
    }
}
