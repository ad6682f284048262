//! A network that shows values between its input and its outputs: compiled once more, with these as outputs.

use super::Error;
use crate::diagnostic::Location;
use crate::driver::{self, Compiler, Network};
use crate::interpreter;
use crate::ir::{Graph, NodeId};
use crate::memory::size;
use crate::runtime::Model;
use crate::tensor::{NotFinite, Shape, Tensor};

/// Runs a network and shows some of its values.
pub(crate) struct Watched {
    run: Run,
    /// For each value its place among the inputs or the outputs.
    places: Vec<Place>,
    names: Vec<String>,
    inputs: Vec<Shape>,
}

enum Run {
    Compiled(Box<Model>),
    /// Where no code can be made of it.
    Interpreted(Box<Graph>),
    /// All values are inputs.
    Nothing,
}

enum Place {
    Input(usize),
    Output(usize),
}

impl Watched {
    /// Compiles a graph that was made of a network.
    ///
    /// # Errors
    /// Where neither code can be made of it nor the interpreter would come to an end, or its values take more memory
    /// than they may.
    pub(crate) fn new(
        compiler: &Compiler,
        network: &Network,
        graph: &Graph,
        values: &[NodeId],
    ) -> Result<Watched, Error> {
        let mut shown = graph.clone();
        shown.clear_outputs();
        let mut places = vec![];
        for &value in values {
            places.push(match graph.inputs().iter().position(|&input| input == value) {
                Some(input) => Place::Input(input),
                None => {
                    let number = shown.outputs().len();
                    shown.output(format!("value {number}"), value, None);
                    Place::Output(number)
                }
            });
        }
        let needed: u64 = values.iter().map(|&value| graph.node(value).shape.bytes() as u64).sum();
        let limit = compiler.options.memory_limit();
        if needed > limit {
            let message =
                format!("its values take {} of memory, more than the {} that they may", size(needed), size(limit));
            return Err(Error::Network(message));
        }
        let names = values.iter().map(|&value| describe(graph, value)).collect();
        let inputs = graph.inputs().iter().map(|&input| graph.node(input).shape.clone()).collect();
        let run = match shown.outputs().is_empty() {
            true => Run::Nothing,
            false => run_of(compiler, network, shown)?,
        };
        Ok(Watched { run, places, names, inputs })
    }

    /// Samples of a batch.
    pub(crate) fn batch(&self) -> usize {
        self.inputs.first().and_then(|shape| shape.dims().first().copied()).unwrap_or(1)
    }

    /// The values for a batch, in the order in which they were asked for.
    ///
    /// # Errors
    /// Where a run fails, or a value is not finite.
    pub(crate) fn run(&self, inputs: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, Error> {
        let outputs = self.outputs(inputs)?;
        let mut outputs: Vec<Option<Vec<f32>>> = outputs.into_iter().map(Some).collect();
        let value = |place: &Place| match place {
            Place::Input(input) => inputs[*input].clone(),
            Place::Output(number) => outputs[*number].take().expect("each place once"),
        };
        let values: Vec<Vec<f32>> = self.places.iter().map(value).collect();
        for (values, name) in values.iter().zip(&self.names) {
            if let Some(odd) = NotFinite::among(values) {
                return Err(Error::NotFinite {
                    value: name.clone(),
                    message: format!("{odd} of {} values", values.len()),
                });
            }
        }
        Ok(values)
    }

    fn outputs(&self, inputs: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Network(error.to_string());
        match &self.run {
            Run::Nothing => Ok(vec![]),
            Run::Compiled(model) => {
                let mut outputs: Vec<Vec<f32>> =
                    model.outputs().iter().map(|port| vec![0.0; port.elements()]).collect();
                let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
                let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
                model.run(&inputs, &mut slices).map_err(|error| failed(&error))?;
                Ok(outputs)
            }
            Run::Interpreted(graph) => {
                let tensors = inputs.iter().zip(&self.inputs);
                let tensors: Vec<Tensor> = tensors.map(|(values, shape)| of_shape(values, shape)).collect();
                let outputs = interpreter::run(graph, &tensors).map_err(|error| failed(&error))?;
                Ok(outputs.into_iter().map(Tensor::into_data).collect())
            }
        }
    }
}

/// Numbers as a tensor of the shape's element.
fn of_shape(values: &[f32], shape: &Shape) -> Tensor {
    Tensor::new(Shape::new(shape.dims()), values.to_vec()).to_element(shape.element())
}

fn run_of(compiler: &Compiler, network: &Network, graph: Graph) -> Result<Run, Error> {
    let mut shown = Network { graph, ..network.clone() };
    compiler.optimize(&mut shown);
    match compiler.compile(&shown) {
        Ok(model) => Ok(Run::Compiled(Box::new(model))),
        Err(driver::Error::Codegen(error)) => match interpreter::check_work(&shown.graph) {
            Ok(()) => Ok(Run::Interpreted(Box::new(shown.graph))),
            Err(_) => Err(driver::Error::Codegen(error).into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// A value for people: its label or layer, and its line.
pub(crate) fn describe(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let op = node.op().map_or("input", |op| op.layer_name());
    let at = node.location.as_ref().map(Location::to_string).map(|at| format!(" ({at})")).unwrap_or_default();
    match &node.name {
        Some(name) => format!("{name}{at}"),
        None => format!("{op}{at}"),
    }
}
