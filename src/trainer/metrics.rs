//! Figures of a batch beside its loss, computed from scores.

/// For each sample, the class with the highest score; of equal ones the first, and none that is no number. Scores are `[N, C, …]`, row-major, with
/// `inner` values behind the classes.
pub(crate) fn best_classes(scores: &[f32], classes: usize, inner: usize) -> Vec<usize> {
    rows(scores, classes, inner)
        .map(|score| {
            let is_better =
                |class, best| score(class) > score(best) || (score(best).is_nan() && !score(class).is_nan());
            (1..classes).fold(0, |best, class| if is_better(class, best) { class } else { best })
        })
        .collect()
}

/// How many samples have the label's score among the `k` highest, and how many were counted: labels that are
/// `ignored` are not. A score that is no number is the lowest; of equal ones the first class is the higher.
pub(crate) fn top_k(
    scores: &[f32],
    labels: &[f32],
    classes: usize,
    inner: usize,
    k: usize,
    ignored: Option<i64>,
) -> (usize, usize) {
    let (mut right, mut counted) = (0, 0);
    for (score, &label) in rows(scores, classes, inner).zip(labels) {
        if ignored.is_some_and(|ignored| label == ignored as f32) {
            continue;
        }
        counted += 1;
        let label = label as usize;
        let own = score(label);
        let above = |class: usize| {
            let other = score(class);
            other > own || (other == own && class < label) || (own.is_nan() && !other.is_nan())
        };
        right += usize::from(!own.is_nan() && (0..classes).filter(|&class| above(class)).count() < k);
    }
    (right, counted)
}

/// The scores of each sample, by class.
fn rows(scores: &[f32], classes: usize, inner: usize) -> impl Iterator<Item = impl Fn(usize) -> f32> {
    let image = classes * inner;
    scores.chunks(image).flat_map(move |image| (0..inner).map(move |at| move |class: usize| image[class * inner + at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_is_among_the_highest() {
        let scores = [0.1, 0.7, 0.2, 0.5, 0.5, 0.0, f32::NAN, 1.0, 2.0];
        assert_eq!(best_classes(&scores, 3, 1), [1, 0, 2]);
        assert_eq!(top_k(&scores, &[1.0, 1.0, 0.0], 3, 1, 1, None), (1, 3));
        assert_eq!(top_k(&scores, &[2.0, 1.0, 1.0], 3, 1, 2, None), (3, 3));
        assert_eq!(top_k(&scores, &[2.0, 1.0, 1.0], 3, 1, 1, Some(1)), (0, 1));
    }

    /// `[1, 2, 2]`: the classes lie apart.
    #[test]
    fn scores_of_pixels() {
        assert_eq!(best_classes(&[1.0, 0.0, 0.5, 2.0], 2, 2), [0, 1]);
        assert_eq!(top_k(&[1.0, 0.0, 0.5, 2.0], &[0.0, 0.0], 2, 2, 1, None), (1, 2));
    }
}
