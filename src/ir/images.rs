//! Whether a network treats the images of a batch one by one: the one analysis that everybody asks who
//! would give it another number of images than it was made for.
//!
//! ```text
//! inputs: images along axis 0 ──each op's own rule──▶ where they are in every value, or what mixes them
//! ```
//!
//! With one image, a size of 1 does not tell whether it counts images. So the shapes of all values are
//! inferred once more, for a number of images that is prime and divides none of the graph's sizes: then a
//! size counts images where that prime divides it, and an op that fits no such number is found as well.
//! Nothing is computed. The answer may say "mixes" of a graph whose images stay apart after all (a concat
//! along the batch that is cut up again), never the other way round.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Graph, Kind, NodeId};
use crate::diagnostic::Location;
use crate::ops::images::{Images as Place, ONE_NUMBER};
use crate::tensor::Shape;

/// Primes that are tried as a number of images.
const PRIMES_BELOW: usize = 8192;

/// How many images a network takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Images {
    /// Any number: each image's results depend on that image only, and lie side by side.
    Independent,
    /// So many as its inputs have, since the first size of this one is a number.
    Fixed { input: String, location: Option<Location> },
    /// So many as it was made for: results of several images differ from those of each alone.
    Mixed(Mixed),
}

/// What mixes images, as people call it.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// The step's label, else its layer.
    pub step: String,
    pub location: Option<Location>,
    /// Of a subject "it".
    pub reason: String,
}

impl std::fmt::Display for Mixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.location.as_ref().map(|l| format!(" ({l})")).unwrap_or_default();
        write!(f, "{}{place} does not treat images one by one: {}", self.step, self.reason)
    }
}

/// A node that keeps images from being independent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixing {
    pub node: NodeId,
    /// Of a subject "it".
    pub reason: String,
}

impl Mixing {
    pub fn named(&self, graph: &Graph) -> Mixed {
        let node = graph.node(self.node);
        let step = node.name.clone().or(node.op().map(|op| op.layer_name().to_string()));
        Mixed { step: step.unwrap_or_default(), location: node.location.clone(), reason: self.reason.clone() }
    }
}

/// Where images are in a graph's values.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// By value, of those that outputs need. What comes after a mixing is not known and not listed.
    pub places: HashMap<NodeId, Place>,
    /// What mixes images, in topological order; without what comes after.
    pub mixing: Vec<Mixing>,
}

impl Graph {
    /// How many images the graph takes, where those of the inputs `open` are along the first axis of these
    /// and other inputs are the same for all images.
    pub fn images(&self, open: &[NodeId]) -> Images {
        trace(self, open).images(self, open)
    }
}

impl Trace {
    /// What [`Graph::images`] says of the graph that was traced.
    pub fn images(&self, graph: &Graph, open: &[NodeId]) -> Images {
        let fixed = graph.inputs().iter().find(|input| !open.contains(input));
        match (self.mixing.first(), fixed) {
            (_, Some(&input)) => {
                let node = graph.node(input);
                Images::Fixed { input: node.name.clone().unwrap_or_default(), location: node.location.clone() }
            }
            (Some(mixing), None) => Images::Mixed(mixing.named(graph)),
            (None, None) => Images::Independent,
        }
    }
}

/// Follows the images from the inputs `open` to the outputs.
pub fn trace(graph: &Graph, open: &[NodeId]) -> Trace {
    let mut trace = Trace::default();
    let live = live(graph);
    let Some(count) = unusual_count(graph) else {
        let mixing = |&node: &NodeId| Mixing { node, reason: "it is too large a network to be told".into() };
        trace.mixing = live.first().map(mixing).into_iter().collect();
        return trace;
    };
    let mut shapes: HashMap<NodeId, Shape> = HashMap::new();
    for &id in &live {
        match step(graph, id, open, count, &shapes, &trace.places) {
            None => {}
            Some(Ok((shape, place))) => {
                shapes.insert(id, shape);
                trace.places.insert(id, place);
            }
            Some(Err(reason)) => trace.mixing.push(Mixing { node: id, reason }),
        }
    }
    let outputs = graph.outputs.iter().filter_map(|o| Some((o, trace.places.get(&o.node)?)));
    let misplaced = outputs.filter_map(|(output, place)| {
        let reason = match place {
            place if place.are_outermost() => return None,
            Place::Nowhere => format!("the output {} is the same whatever the images are", output.name),
            Place::Along { .. } => format!("the output {} does not have the images along its first axis", output.name),
        };
        Some(Mixing { node: output.node, reason })
    });
    let misplaced: Vec<Mixing> = misplaced.collect();
    trace.mixing.extend(misplaced);
    trace
}

/// The graph for another number of images of the inputs `open`; `None` where it fits no other.
pub fn resized(graph: &Graph, open: &[NodeId], count: usize) -> Option<Graph> {
    let mut resized = graph.clone();
    for id in graph.order() {
        let shape = match &graph.node(id).kind {
            Kind::Input(_) => sized(&graph.node(id).shape, open.contains(&id).then_some(count)),
            Kind::Op(op) => op.infer_unlimited(&resized.operand_shapes(id)).ok()?,
        };
        resized.node_mut(id).shape = shape;
    }
    Some(resized)
}

/// The smallest prime that divides no size of the graph's values.
pub fn unusual_count(graph: &Graph) -> Option<usize> {
    let sizes = graph.order().into_iter().flat_map(|id| graph.node(id).shape.dims());
    let sizes: BTreeSet<usize> = sizes.copied().collect();
    let is_prime = |n: &usize| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0);
    (2..PRIMES_BELOW).filter(is_prime).find(|prime| sizes.iter().all(|size| size % prime != 0))
}

/// A node's shape for `count` images, and where they are in it; `None` behind a mixing.
fn step(
    graph: &Graph,
    id: NodeId,
    open: &[NodeId],
    count: usize,
    shapes: &HashMap<NodeId, Shape>,
    places: &HashMap<NodeId, Place>,
) -> Option<Result<(Shape, Place), String>> {
    let node = graph.node(id);
    let Kind::Op(op) = &node.kind else {
        let is_open = open.contains(&id) && node.shape.rank() > 0;
        let place = if is_open { Place::FIRST } else { Place::Nowhere };
        return Some(Ok((sized(&node.shape, is_open.then_some(count)), place)));
    };
    let operands = graph.operands(id);
    let operand_places: Vec<Place> = operands.iter().map(|o| places.get(o).copied()).collect::<Option<_>>()?;
    if operand_places.iter().all(|&place| place == Place::Nowhere) {
        return Some(Ok((node.shape.clone(), Place::Nowhere)));
    }
    let operand_shapes: Vec<&Shape> = operands.iter().map(|o| &shapes[o]).collect();
    let Ok(shape) = op.infer_unlimited(&operand_shapes) else {
        // Where the op's own rule knows better, since it looks at no sizes, that is the reason.
        let rule = op.images(&operand_places, &operand_shapes, &node.shape);
        return Some(Err(rule.err().unwrap_or_else(|| ONE_NUMBER.into())));
    };
    let place = op.images(&operand_places, &operand_shapes, &shape);
    Some(place.map(|place| (shape, place)))
}

/// A shape with another first size.
fn sized(shape: &Shape, first: Option<usize>) -> Shape {
    let mut dims = shape.dims().to_vec();
    if let (Some(size), Some(count)) = (dims.first_mut(), first) {
        *size = count;
    }
    Shape::new(dims)
}

/// All inputs, and what the outputs need; operands before their users.
fn live(graph: &Graph) -> Vec<NodeId> {
    let mut needed: HashSet<NodeId> = graph.inputs().iter().copied().collect();
    let mut pending: Vec<NodeId> = graph.outputs.iter().map(|o| o.node).collect();
    while let Some(id) = pending.pop() {
        if needed.insert(id) {
            pending.extend(graph.operands(id));
        }
    }
    graph.order().into_iter().filter(|id| needed.contains(id)).collect()
}
