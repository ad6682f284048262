//! How often a network is right, and which layers have to stay f32 for it.

use std::collections::BTreeSet;

use super::report::Accuracy;
use super::watch::Watched;
use super::{Error, Goal, Made, Noises, Rounding, Samples};
use crate::ir::{Graph, NodeId};
use crate::trainer::top_k;

/// The layers that stay f32 so that the loss is within the goal's, and the accuracies.
///
/// Layers go back in the order of the noise that they add: 1, 2, 4 of them and so on until it is enough, then fewer, as
/// long as that is enough.
///
/// # Errors
/// Where not even the last layer may have 8 bits.
pub(super) fn keep(run: &Rounding<'_>, goal: &Goal<'_>) -> Result<(BTreeSet<NodeId>, Accuracy), Error> {
    let of_reals = top1(run, &goal.labelled, run.graph, "measuring the accuracy of f32")?;
    let all = run.made(&BTreeSet::new())?;
    let measure = |made: &Made, kept: usize| {
        let doing = match kept {
            0 => "measuring the accuracy of 8 bits".to_string(),
            kept => format!("measuring with {kept} layers of f32"),
        };
        top1(run, &goal.labelled, &made.rewritten.graph, &doing)
    };
    let first = measure(&all, 0)?;
    let samples = of_reals.1;
    let share = |(right, samples): (usize, usize)| right as f64 / samples as f64;
    let is_enough = |found: (usize, usize)| goal.loss.is_none_or(|loss| share(of_reals) - share(found) <= loss + 1e-9);
    let told = |found| Accuracy {
        samples,
        of_reals: share(of_reals),
        of_eight_bits: share(found),
        without_kept: share(first),
    };
    if is_enough(first) {
        return Ok((BTreeSet::new(), told(first)));
    }
    let worst = worst(&all, &run.noise(&all)?);
    let with = |count: usize| -> Result<(usize, usize), Error> {
        let kept: BTreeSet<NodeId> = worst[..count].iter().copied().collect();
        measure(&run.made(&kept)?, count)
    };
    // As many as are too few, and as many as are enough with what came of them.
    let (mut few, mut enough, mut last) = (0, None, first);
    let most = worst.len() - 1;
    while enough.is_none() && few < most {
        let count = (2 * few).clamp(1, most);
        last = with(count)?;
        match is_enough(last) {
            true => enough = Some((count, last)),
            false => few = count,
        }
    }
    let Some((mut count, mut found)) = enough else {
        let lost = 100.0 * (share(of_reals) - share(last));
        let message = format!(
            "with {few} of {} layers in f32 it still loses {lost:.2} points of accuracy, more than {}: no layer can have \
             8 bits",
            worst.len(),
            100.0 * goal.loss.unwrap_or(0.0),
        );
        return Err(Error::Network(message));
    };
    while count - few > 1 {
        let middle = few + (count - few) / 2;
        let tried = with(middle)?;
        match is_enough(tried) {
            true => (count, found) = (middle, tried),
            false => few = middle,
        }
    }
    Ok((worst[..count].iter().copied().collect(), told(found)))
}

/// Layers of 8 bits by the noise that each adds to what it reads, the most first.
fn worst(made: &Made, noises: &Noises) -> Vec<NodeId> {
    let added = |(layer, roots): &(NodeId, Vec<NodeId>)| {
        let before = roots.iter().map(|root| noises.of_roots[root][0].share()).fold(0.0, f64::max);
        (*layer, noises.of_layers[layer].share() - before)
    };
    let mut layers: Vec<(NodeId, f64)> = made.sites.layers.iter().map(added).collect();
    layers.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    layers.into_iter().map(|(layer, _)| layer).collect()
}

/// How many samples a network is right about, of how many.
fn top1(run: &Rounding<'_>, labelled: &Samples<'_>, graph: &Graph, doing: &str) -> Result<(usize, usize), Error> {
    let job = run.job;
    let Some(output) = graph.outputs().first() else { return Err(Error::Network("it has no output".into())) };
    let classes: usize = graph.node(output.node).shape.dims().get(1..).unwrap_or_default().iter().product();
    let watched = Watched::new(job.compiler, job.network, graph, &[output.node])?;
    let (mut right, mut samples) = (0, 0);
    for batch in labelled.batches(job.network, watched.batch(), job.memory())? {
        let batch = batch?;
        let scores = watched.run(&batch.inputs)?;
        let (labels, scores) = (&batch.labels[..batch.count], &scores[0][..batch.count * classes]);
        right += top_k(scores, labels, classes, 1, 1, None).0;
        samples += batch.count;
        (job.told)(doing, samples, labelled.dataset.len());
    }
    match samples {
        0 => Err(Error::Samples(format!("no sample of {} can be read", labelled.dataset.path().display()))),
        samples => Ok((right, samples)),
    }
}
