//! What is learnt of a network's values by running it on samples.

use std::collections::HashMap;

use super::histogram::Histogram;
use super::watch::Watched;
use super::{Error, Job, Samples};
use crate::ir::{Graph, NodeId};
use crate::ops::Op;
use crate::ops::quantized::Grid;

/// Counts the numbers of values on all samples.
pub(crate) fn histograms(job: &Job<'_>, graph: &Graph, values: &[NodeId]) -> Result<HashMap<NodeId, Histogram>, Error> {
    let watched = Watched::new(job.compiler, job.network, graph, values)?;
    let mut histograms = vec![Histogram::default(); values.len()];
    for_each(job, &job.samples, &watched, "observing values", |seen| {
        histograms.iter_mut().zip(seen).for_each(|(histogram, values)| histogram.add(values));
    })?;
    Ok(values.iter().copied().zip(histograms).collect())
}

/// Runs a network on all samples that fill batches.
fn for_each(
    job: &Job<'_>,
    samples: &Samples<'_>,
    watched: &Watched,
    doing: &str,
    mut see: impl FnMut(&[Vec<f32>]),
) -> Result<usize, Error> {
    let mut count = 0;
    for batch in samples.batches(job.network, watched.batch(), job.memory())? {
        let batch = batch?;
        if batch.count < watched.batch() {
            continue;
        }
        see(&watched.run(&batch.inputs)?);
        count += batch.count;
        (job.told)(doing, count, samples.dataset.len());
    }
    match count {
        0 => Err(Error::Samples(format!(
            "{} has {} samples, fewer than the {} that the network takes at once",
            samples.dataset.path().display(),
            samples.dataset.len(),
            watched.batch()
        ))),
        count => Ok(count),
    }
}

/// The mean of each channel of a value.
#[derive(Clone, Debug, Default)]
struct Sums {
    of_reals: Vec<f64>,
    of_grid: Vec<f64>,
    /// Numbers of a channel.
    count: f64,
}

/// Means of the channels of what a layer reads: as it is, and on its grid.
#[derive(Clone, Debug)]
pub(crate) struct Means {
    pub of_reals: Vec<f64>,
    pub of_grid: Vec<f64>,
}

/// The axis of a layer's input along which its channels lie.
fn channel_axis(graph: &Graph, layer: NodeId) -> usize {
    match graph.node(layer).op() {
        Some(Op::Conv2d(_) | Op::ConvTranspose2d(_)) => 1,
        _ => graph.node(graph.operands(layer)[0]).shape.rank() - 1,
    }
}

/// For each layer the means of its input, which is rounded to the grid that stands beside it, or to those of its channels.
pub(crate) fn means(
    job: &Job<'_>,
    graph: &Graph,
    layers: &[(NodeId, Vec<Grid>)],
) -> Result<HashMap<NodeId, Means>, Error> {
    let mut values: Vec<NodeId> = vec![];
    let mut places = vec![];
    for (layer, _) in layers {
        let value = graph.operands(*layer)[0];
        let place = values.iter().position(|&known| known == value);
        places.push(place.unwrap_or_else(|| {
            values.push(value);
            values.len() - 1
        }));
    }
    let watched = Watched::new(job.compiler, job.network, graph, &values)?;
    let mut sums = vec![Sums::default(); layers.len()];
    for_each(job, &job.samples, &watched, "averaging values", |seen| {
        for (((layer, grids), &place), sums) in layers.iter().zip(&places).zip(&mut sums) {
            let dims = graph.node(values[place]).shape.dims();
            let axis = channel_axis(graph, *layer);
            let (channels, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
            sums.of_reals.resize(channels, 0.0);
            sums.of_grid.resize(channels, 0.0);
            for (i, row) in seen[place].chunks(inner).enumerate() {
                let channel = i % channels;
                let grid = grids[channel % grids.len()];
                sums.of_reals[channel] += row.iter().map(|&v| f64::from(v)).sum::<f64>();
                let rounded = row.iter().map(|&v| f64::from(grid.real(grid.nearest(v))));
                sums.of_grid[channel] += rounded.sum::<f64>();
            }
            sums.count += (seen[place].len() / channels) as f64;
        }
    })?;
    let mean = |sums: Sums| {
        let of = |sum: Vec<f64>| sum.into_iter().map(|sum| sum / sums.count).collect();
        Means { of_reals: of(sums.of_reals), of_grid: of(sums.of_grid) }
    };
    Ok(layers.iter().zip(sums).map(|((layer, _), sums)| (*layer, mean(sums))).collect())
}

/// How large a value is, and how far another lies from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Noise {
    signal: f64,
    noise: f64,
}

impl Noise {
    fn add(&mut self, expected: &[f32], found: &[f32]) {
        for (&e, &f) in expected.iter().zip(found) {
            self.signal += f64::from(e).powi(2);
            self.noise += (f64::from(e) - f64::from(f)).powi(2);
        }
    }

    /// The square of the error as a share of the value's.
    pub(crate) fn share(self) -> f64 {
        if self.noise == 0.0 { 0.0 } else { self.noise / self.signal.max(f64::MIN_POSITIVE) }
    }

    /// The ratio of signal to noise in dB; none where there is no noise.
    pub(crate) fn decibels(self) -> Option<f64> {
        (self.noise > 0.0 && self.signal > 0.0).then(|| 10.0 * (self.signal / self.noise).log10())
    }
}

/// Compares values of two networks on all samples: the first of each pair is of the first network.
pub(crate) fn compare(
    job: &Job<'_>,
    [real, rounded]: [&Graph; 2],
    pairs: &[(NodeId, NodeId)],
) -> Result<Vec<Noise>, Error> {
    let unique = |values: Vec<NodeId>| -> (Vec<NodeId>, Vec<usize>) {
        let mut found: Vec<NodeId> = vec![];
        let mut places = vec![];
        for value in values {
            let known = found.iter().position(|&known| known == value);
            places.push(known.unwrap_or(found.len()));
            if known.is_none() {
                found.push(value);
            }
        }
        (found, places)
    };
    let (expected, of_expected) = unique(pairs.iter().map(|pair| pair.0).collect());
    let (found, of_found) = unique(pairs.iter().map(|pair| pair.1).collect());
    let expected = Watched::new(job.compiler, job.network, real, &expected)?;
    let found = Watched::new(job.compiler, job.network, rounded, &found)?;
    let mut noises = vec![Noise::default(); pairs.len()];
    let mut count = 0;
    for batch in job.samples.batches(job.network, expected.batch(), job.memory())? {
        let batch = batch?;
        if batch.count < expected.batch() {
            continue;
        }
        let (expected, found) = (expected.run(&batch.inputs)?, found.run(&batch.inputs)?);
        for ((noise, &e), &f) in noises.iter_mut().zip(&of_expected).zip(&of_found) {
            noise.add(&expected[e], &found[f]);
        }
        count += batch.count;
        (job.told)("comparing values", count, job.samples.dataset.len());
    }
    Ok(noises)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_in_decibels() {
        let mut noise = Noise::default();
        assert_eq!((noise.share(), noise.decibels()), (0.0, None));
        noise.add(&[3.0, 4.0], &[3.0, 4.5]);
        assert_eq!(noise.share(), 0.01);
        assert!((noise.decibels().unwrap() - 20.0).abs() < 1e-12);
    }
}
