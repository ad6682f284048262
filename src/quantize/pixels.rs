//! Inputs that take pixels as they are: what the preprocessing computes becomes part of the layers that read them.
//!
//! ```text
//! x = (p − m) · s                       a level p of a picture, by the preprocessing of its channel
//! v = (p − m) · t = x · t / s           what layers read instead, with one t for all channels,
//!                                       by weights that are multiplied by s / t of their channel
//! d = (p − z) · t                       v on a grid of its own zero point in each channel, the nearest to m
//! ```
//!
//! The numbers of that grid are the pixels' levels, so that the network may take these: `dequantize` gives d of u8. What
//! d and v differ by, less than half a level and the same for all pixels of a channel, is what biases are corrected by.

use crate::ir::{Editor, Graph, Kind, NodeId, Slot};
use crate::ops::{ChannelAffine, Dequantize, Op};
use crate::preprocess::Preprocess;
use crate::tensor::Element;

/// How a network's input is made of pixels.
#[derive(Clone, Debug)]
pub(crate) struct Pixels {
    input: NodeId,
    /// The value that layers read.
    pub root: NodeId,
    /// The distance of two levels, and the level of the number 0 in each channel.
    pub scale: f32,
    pub zeros: Vec<i64>,
}

impl Pixels {
    /// Lets layers read pixels less their mean, with one scale for all channels.
    ///
    /// # Errors
    /// Where the input is none of pixels, or is read by others than convolutions of one group.
    pub(crate) fn of(graph: &mut Graph) -> Result<Pixels, String> {
        let name = graph.name.clone();
        let &[input] = graph.inputs() else {
            return Err(format!("{name} has {} inputs; pixels are those of one", graph.inputs().len()));
        };
        let [_, channels, ..] =
            graph.node(input).shape.nchw().ok_or_else(|| format!("the input of {name} is no image"))?;
        let Kind::Input(Some(preprocess)) = &graph.node(input).kind else {
            return Err(format!("{name} does not say what becomes of pixels: give its input a `preprocess`"));
        };
        let linear = linear(preprocess, channels);
        let t = linear.iter().map(|&(_, s)| s).fold(0.0, f64::max);
        let is_usual = |&(m, s): &(f64, f64)| (0.0..=255.0).contains(&m) && s > 0.0 && s.is_finite();
        if !linear.iter().all(is_usual) {
            return Err(format!(
                "the preprocessing of {name} has a mean beyond all pixels, or a factor that is not above 0"
            ));
        }
        let readers = graph.users(input);
        let is_plain = |&(reader, slot): &(NodeId, Slot)| {
            let is_conv = matches!(graph.node(reader).op(), Some(Op::Conv2d(op)) if op.groups == 1);
            is_conv && slot == Slot::Operand(0) && graph.weights_of(reader).is_some()
        };
        if readers.is_empty() || graph.is_output(input) || !readers.iter().all(is_plain) {
            return Err(format!("the input of {name} is read by others than convolutions of one group"));
        }
        let e = &mut Editor::new(graph, "pixels");
        let factors: Vec<f64> = linear.iter().map(|(_, s)| t / s).collect();
        let factor = e.derive("pixels.factor", [channels], &factors, false);
        let root = e.insert(ChannelAffine { bias: false, epilogue: vec![] }, &[input], vec![factor], input);
        for (reader, _) in readers {
            let op = e.node(reader).op().cloned().expect("a convolution");
            let mut weights = e.weights_of(reader).expect("known weights");
            let (origin, shape) = (e.parameter_name(reader, 0), e.weights.get(weights[0]).shape.clone());
            let taps = shape[2] * shape[3];
            let scaled = e.weight_values(weights[0]).into_iter().enumerate();
            let scaled: Vec<f64> = scaled.map(|(i, w)| w / factors[i / taps % channels]).collect();
            weights[0] = e.derive(&origin, shape, &scaled, true);
            let operands: Vec<NodeId> =
                e.operands(reader).into_iter().map(|o| if o == input { root } else { o }).collect();
            e.rewrite(reader, op, &operands, weights);
        }
        let zeros = linear.iter().map(|&(m, _)| m.round_ties_even() as i64).collect();
        Ok(Pixels { input, root, scale: t as f32, zeros })
    }

    /// Lets a network take levels whose input is rounded to the grid of pixels by this node.
    pub(crate) fn take_levels(&self, graph: &mut Graph, rounded: NodeId) {
        if let Kind::Input(Some(preprocess)) = &graph.node(self.input).kind {
            let steps = Preprocess { scale: None, mean: vec![], std: vec![], ..preprocess.clone() };
            graph.set_preprocess(self.input, Some(steps));
        }
        graph.set_input_element(self.input, Element::U8);
        let weights = graph.weights_of(rounded).expect("a grid's numbers are known");
        let e = &mut Editor::new(graph, "pixels");
        e.rewrite(rounded, Dequantize::new(Some(1), false), &[self.input], weights);
        e.remark("the input takes pixels", vec![]);
    }
}

/// For each channel m and s of `(p − m) · s`, which the preprocessing makes of pixels.
fn linear(preprocess: &Preprocess, channels: usize) -> Vec<(f64, f64)> {
    let factor = f64::from(preprocess.scale.unwrap_or(1.0));
    let of = |values: &[f32], channel: usize, absent: f64| values.get(channel).map_or(absent, |&v| f64::from(v));
    let channel = |c: usize| (of(&preprocess.mean, c, 0.0) / factor, factor / of(&preprocess.std, c, 1.0));
    (0..channels).map(channel).collect()
}
