//! A part of a network in place of the whole: up to some of its values, or from some on.

use std::collections::HashMap;

use super::{Compiler, Error, Network};
use crate::diagnostic::nearest;
use crate::ir::{Graph, NodeId, images, stats};

/// Which part of a network is compiled; the whole by default. Values go by their labels, inputs and outputs by their
/// names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Values that become inputs, of these names. What leads to them is left out.
    pub from: Vec<String>,
    /// Values that are the outputs, of these names, in place of the network's own.
    pub until: Vec<String>,
    /// Values that are outputs beside the network's own.
    pub also: Vec<String>,
}

/// What a part names and the network does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no value `{name}` in {network}{}", hint(similar, outputs))]
pub struct NoValue {
    network: String,
    name: String,
    similar: Option<String>,
    outputs: Vec<String>,
}

fn hint(similar: &Option<String>, outputs: &[String]) -> String {
    match similar {
        Some(similar) => format!("; did you mean `{similar}`?"),
        None => format!("; its outputs: {}; `netc ir --stage graph` shows what labels name", outputs.join(", ")),
    }
}

impl Part {
    /// Whether it is the whole network.
    pub fn is_whole(&self) -> bool {
        *self == Self::default()
    }
}

impl Compiler {
    /// Leaves of the network what [`Self::part`] asks for.
    ///
    /// # Errors
    /// Where a name is none of the network's, or the part computes nothing.
    pub(super) fn cut(&self, network: &mut Network) -> Result<(), Error> {
        if self.part.is_whole() {
            return Ok(());
        }
        let find = |name: &String| Ok((name.clone(), value(network, name)?));
        let from = self.part.from.iter().map(find).collect::<Result<Vec<_>, Error>>()?;
        let mut outputs = match self.part.until.as_slice() {
            [] => {
                network.graph.outputs().iter().filter(|o| o.aux.is_none()).map(|o| (o.name.clone(), o.node)).collect()
            }
            until => until.iter().map(find).collect::<Result<Vec<_>, Error>>()?,
        };
        let is_new = |name: &&String| outputs.iter().all(|(output, _)| output != *name);
        let also = self.part.also.iter().filter(is_new).map(find).collect::<Result<Vec<_>, Error>>()?;
        outputs.extend(also);
        let open = self.open_after(network, &from);
        network
            .graph
            .cut(&from, &outputs)
            .map_err(|cause| Error::Part { network: network.graph.name.clone(), cause })?;
        let open: Vec<NodeId> = network
            .graph
            .inputs()
            .iter()
            .copied()
            .filter(|&id| network.graph.node(id).name.as_ref().is_some_and(|name| open.contains(name)))
            .collect();
        network.stats = stats::stats(&network.graph);
        network.images = network.graph.images(&open);
        network.open =
            (0..network.graph.inputs().len()).filter(|&i| open.contains(&network.graph.inputs()[i])).collect();
        Ok(())
    }

    /// The names of the inputs whose first size is the number of images, when the values `from` are inputs too.
    fn open_after(&self, network: &Network, from: &[(String, NodeId)]) -> Vec<String> {
        let graph = &network.graph;
        let open: Vec<NodeId> = network.open.iter().map(|&i| graph.inputs()[i]).collect();
        let places = images::trace(graph, &open).places;
        let has_images = |(_, node): &&(String, NodeId)| places.get(node).is_some_and(|place| place.are_outermost());
        let own = open.iter().filter_map(|&id| graph.node(id).name.clone());
        own.chain(from.iter().filter(has_images).map(|(name, _)| name.clone())).collect()
    }
}

/// The value of a label, an output or an input.
fn value(network: &Network, name: &str) -> Result<NodeId, Error> {
    let graph = &network.graph;
    let output = graph.outputs().iter().find(|output| output.name == name).map(|output| output.node);
    let found = network.labels.get(name).copied().or(output).or_else(|| named(graph).get(name).copied());
    found.ok_or_else(|| {
        let outputs: Vec<String> = graph.outputs().iter().map(|output| output.name.clone()).collect();
        let mut labels: Vec<&String> = network.labels.keys().chain(&outputs).collect();
        labels.sort();
        let similar = nearest(name, labels.into_iter().map(String::as_str)).map(String::from);
        Error::NoValue(NoValue { network: graph.name.clone(), name: name.into(), similar, outputs })
    })
}

/// The nodes that have names of their own, of a network without a text.
fn named(graph: &Graph) -> HashMap<&str, NodeId> {
    graph.order().into_iter().filter_map(|id| Some((graph.node(id).name.as_deref()?, id))).collect()
}
