//! What scores say of classes: shares, and which are the largest.

/// A class that a network names.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Its place among the scores, from 0.
    pub index: usize,
    /// What it is called, where that is known.
    pub label: Option<String>,
    /// Its share, from 0 to 1.
    pub probability: f32,
}

/// The `k` likeliest classes, the likeliest first. Values that are no distribution yet become one by softmax; `labels` are
/// names by index, fewer or none where they are not known.
pub fn ranked(values: &[f32], labels: &[String], k: usize) -> Vec<Class> {
    let probabilities = probabilities(values);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]).then(a.cmp(&b)));
    let class = |index: usize| Class { index, label: labels.get(index).cloned(), probability: probabilities[index] };
    order.into_iter().take(k).map(class).collect()
}

/// The values themselves where they are a distribution, else their softmax.
pub fn probabilities(values: &[f32]) -> Vec<f32> {
    let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
    if values.iter().all(|v| (0.0..=1.0).contains(v)) && (sum - 1.0).abs() < 1e-3 {
        return values.to_vec();
    }
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = values.iter().map(|&v| f64::from(v - largest).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.iter().map(|p| (p / total) as f32).collect()
}
