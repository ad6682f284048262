//! How good a network is by now: its losses and metrics on samples that it was not trained with, computed by the code
//! that inference would run.

use std::sync::Arc;

use super::TrainError;
use super::engine::EngineOptions;
use super::metrics::{best_classes, top_k};
use crate::artifact::{About, Destination, Images, Texts};
use crate::codegen;
use crate::data::{Batch, Loader};
use crate::ir::images::resized;
use crate::ir::{Graph, Phase};
use crate::ops::Op;
use crate::passes::{self, Selection};
use crate::recipe::{Metric, Source, Training};
use crate::runtime::Model;

/// What came of an evaluation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Samples.
    pub samples: usize,
    /// Mean of the loss, without auxiliary heads. Where the text fits no other number of samples than its batch, losses
    /// other than cross entropy are means over whole batches only; NaN where there is none.
    pub loss: f64,
    /// Metrics of the text, by name: shares, or means of numbers.
    pub metrics: Vec<(String, f64)>,
    /// How many samples of a class (row) were taken for which (column); empty where there are no classes, or more than
    /// 1000 of them.
    pub confusion: Vec<Vec<u64>>,
}

/// Largest number of classes for which a confusion table is counted.
const MOST_CLASSES: usize = 1000;

/// The graph of an evaluation.
pub(crate) struct Evaluator {
    graph: Graph,
    /// Of the loss's terms, which are the first outputs.
    weights: Vec<f32>,
    /// With the place of their output.
    metrics: Vec<(String, Metric, usize)>,
    /// For each input of the text whether it is labels.
    is_labels: Vec<bool>,
    images: usize,
    /// Labels that do not count are enough to leave rows out of losses and metrics.
    ignores_rest: bool,
}

/// The network as inference runs it, for batches of any number of samples.
pub(crate) struct Models<'a> {
    evaluator: &'a Evaluator,
    options: &'a EngineOptions,
    /// With the weights.
    graph: Graph,
    whole: Model,
    /// For the number of samples that filled no batch last; `None` where the text fits no such number.
    rest: Option<(usize, Option<Model>)>,
}

impl Evaluator {
    /// Of a training with one step whose inputs are all data. `None` for others: a GAN has no loss that would tell.
    pub(crate) fn new(training: &Training) -> Option<Evaluator> {
        let [step] = &training.steps[..] else { return None };
        if !training.sources.iter().all(|source| matches!(source, Source::Data | Source::Labels)) {
            return None;
        }
        let mut graph = training.graph.clone();
        graph.phase = Phase::Infer;
        graph.clear_outputs();
        let losses: Vec<_> = step.losses.iter().filter(|loss| !loss.auxiliary).collect();
        let numbers = training.metrics.iter().filter_map(|metric| match metric {
            Metric::Value { node, .. } => Some(*node),
            Metric::Accuracy { .. } => None,
        });
        let ignores = |node| matches!(graph.node(node).op(), Some(Op::CrossEntropy(_)));
        let ignores_rest = losses.iter().map(|loss| loss.node).chain(numbers).all(ignores);
        for (i, loss) in losses.iter().enumerate() {
            graph.output(format!("loss.{i}"), loss.node, None);
        }
        let mut metrics = vec![];
        for metric in &training.metrics {
            metrics.push((metric_name(metric), metric.clone(), graph.outputs().len()));
            let node = match metric {
                Metric::Accuracy { scores, .. } => *scores,
                Metric::Value { node, .. } => *node,
            };
            graph.output(format!("metric.{}", metrics.len()), node, None);
        }
        Some(Evaluator {
            graph,
            weights: losses.iter().map(|loss| loss.weight).collect(),
            metrics,
            is_labels: training.sources.iter().map(|source| *source == Source::Labels).collect(),
            images: training.batch / training.parts,
            ignores_rest,
        })
    }

    /// Samples that are evaluated at once.
    pub(crate) fn batch(&self) -> usize {
        self.images
    }

    /// The network with the weights that `values` has.
    ///
    /// # Errors
    /// Where no code can be made of it.
    pub(crate) fn models<'a>(
        &'a self,
        values: impl Fn(&str) -> Option<&'a [f32]>,
        options: &'a EngineOptions,
    ) -> Result<Models<'a>, TrainError> {
        let mut graph = self.graph.clone();
        let weights: Vec<_> = graph.weights.iter().map(|(id, weight)| (id, weight.name.clone())).collect();
        for (id, name) in weights {
            if let Some(values) = values(&name) {
                graph.weights.set(id, Arc::new(values.to_vec()));
            }
        }
        let whole = model(graph.clone(), options)?;
        Ok(Models { evaluator: self, options, graph, whole, rest: None })
    }

    fn add(&self, sums: &mut Sums, batch: &Batch, outputs: Option<&[Vec<f32>]>, all: &[Vec<f32>]) {
        let share = batch.count as f64;
        sums.samples += batch.count;
        if let Some(outputs) = outputs.filter(|_| batch.count > 0) {
            let loss: f64 = self.weights.iter().zip(outputs).map(|(&w, out)| f64::from(w) * f64::from(out[0])).sum();
            sums.counted += share;
            sums.loss += share * loss;
        }
        sums.metrics.resize(self.metrics.len(), (0.0, 0.0));
        for ((_, metric, output), (sum, count)) in self.metrics.iter().zip(&mut sums.metrics) {
            match metric {
                Metric::Value { .. } => {
                    if let Some(outputs) = outputs.filter(|_| batch.count > 0) {
                        *sum += share * f64::from(outputs[*output][0]);
                        *count += share;
                    }
                }
                Metric::Accuracy { scores, k, ignored, .. } => {
                    let shape = &self.graph.node(*scores).shape;
                    let (classes, inner) = (shape[1], shape.dims()[2..].iter().product::<usize>());
                    let rows = batch.count * inner;
                    let (scores, labels) = (&all[*output][..rows * classes], &batch.labels[..rows]);
                    let (right, counted) = top_k(scores, labels, classes, inner, *k, Some(*ignored));
                    *sum += right as f64;
                    *count += counted as f64;
                    if classes <= MOST_CLASSES && *k == 1 {
                        sums.confusion.resize(classes, vec![0; classes]);
                        for (class, &label) in best_classes(scores, classes, inner).into_iter().zip(labels) {
                            if let Some(row) = sums.confusion.get_mut(label as usize).filter(|_| label >= 0.0) {
                                row[class] += 1;
                            }
                        }
                    }
                }
            }
        }
    }

    fn finish(&self, sums: Sums) -> Evaluation {
        let names = self.metrics.iter().map(|(name, ..)| name.clone());
        Evaluation {
            samples: sums.samples,
            loss: if sums.counted > 0.0 { sums.loss / sums.counted } else { f64::NAN },
            metrics: names.zip(sums.metrics).map(|(name, (sum, count))| (name, sum / count.max(1.0))).collect(),
            confusion: sums.confusion,
        }
    }
}

/// Code of a graph whose weights are known.
fn model(mut graph: Graph, options: &EngineOptions) -> Result<Model, TrainError> {
    passes::run(&mut graph, &Selection::default());
    let mut plan = options.plan.clone();
    // Nobody tries the kernels before they are used: those of the smallest errors are taken.
    plan.findings.unproved = true;
    let image = codegen::compile(&graph, &options.target, &plan, &Destination::Memory);
    let mut image = image.map_err(|error| TrainError::Codegen(Box::new(error)))?;
    let reason = "its loss is a mean over them".to_string();
    image.manifest.images = Some(Images::Mixed { step: "loss".into(), location: None, reason });
    Model::from_image(image, About::default(), Texts::default(), options.model).map_err(TrainError::Start)
}

impl Models<'_> {
    /// Runs the network on all batches. `told` is called after each with the number of samples that are done.
    ///
    /// # Errors
    /// Where samples cannot be read.
    pub(crate) fn evaluate(
        mut self,
        loader: Loader,
        mut told: impl FnMut(usize, &Batch),
    ) -> Result<Evaluation, TrainError> {
        let evaluator = self.evaluator;
        let mut sums = Sums::default();
        for batch in loader {
            let batch = batch?;
            let all = run(evaluator, &self.whole, &batch)?;
            // Other losses than cross entropy are means over all rows, and zeros fill this batch.
            let is_whole = batch.count == evaluator.images || evaluator.ignores_rest || batch.count == 0;
            match if is_whole { None } else { Some(self.rest(batch.count)?) } {
                None => evaluator.add(&mut sums, &batch, Some(&all), &all),
                Some(rest) => {
                    let outputs = rest.map(|rest| run(evaluator, rest, &batch)).transpose()?;
                    evaluator.add(&mut sums, &batch, outputs.as_deref(), &all);
                }
            }
            told(sums.samples, &batch);
        }
        Ok(evaluator.finish(sums))
    }

    /// The network for so many samples; `None` where the text fits no such number.
    fn rest(&mut self, count: usize) -> Result<Option<&Model>, TrainError> {
        if self.rest.as_ref().is_none_or(|(known, _)| *known != count) {
            let resized = resized(&self.graph, self.graph.inputs(), count);
            self.rest = Some((count, resized.map(|graph| model(graph, self.options)).transpose()?));
        }
        Ok(self.rest.as_ref().and_then(|(_, model)| model.as_ref()))
    }
}

/// What a network gives for the first samples of a batch, as many as it takes.
fn run(evaluator: &Evaluator, model: &Model, batch: &Batch) -> Result<Vec<Vec<f32>>, TrainError> {
    let mut data = batch.inputs.iter();
    let values = evaluator.is_labels.iter().map(|&labels| match labels {
        true => &batch.labels[..],
        false => data.next().map_or(&[][..], |values| &values[..]),
    });
    let inputs: Vec<&[f32]> =
        values.zip(model.inputs()).map(|(values, port)| values.get(..port.elements()).unwrap_or(values)).collect();
    let mut outputs: Vec<Vec<f32>> = model.outputs().iter().map(|port| vec![0.0; port.elements()]).collect();
    let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    model.run(&inputs, &mut slices)?;
    Ok(outputs)
}

/// The label that does not count.
pub(super) const IGNORED: i64 = -100;

#[derive(Default)]
struct Sums {
    samples: usize,
    /// Of which the loss is known.
    counted: f64,
    loss: f64,
    metrics: Vec<(f64, f64)>,
    confusion: Vec<Vec<u64>>,
}

/// What a metric is called where it is told.
pub(crate) fn metric_name(metric: &Metric) -> String {
    match metric {
        Metric::Accuracy { k: 1, .. } => "accuracy".into(),
        Metric::Accuracy { k, .. } => format!("top{k}"),
        Metric::Value { name, .. } => name.clone(),
    }
}
