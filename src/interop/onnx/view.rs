//! How a value of the model shows a node of the graph.
//!
//! Exported graphs move axes about: a network in NHWC stands between transpositions, one-dimensional
//! layers lie between `Unsqueeze` and `Squeeze`. A [`View`] remembers such moves instead of making a
//! node of each, so that most cancel, and layers that do not care about the order of axes are
//! imported beneath them. Only who needs the axes in order gets a transposition.

use crate::ir::NodeId;

/// A value whose axis `i` is the node's axis `axes[i]`, or one of size 1 that the node does not have.
/// Axes of the node that no entry names have size 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub node: NodeId,
    pub axes: Vec<Option<usize>>,
}

impl View {
    /// The node itself.
    pub(crate) fn whole(node: NodeId, rank: usize) -> Self {
        Self { node, axes: (0..rank).map(Some).collect() }
    }

    pub(crate) fn rank(&self) -> usize {
        self.axes.len()
    }

    /// The same view of another node with the same axes.
    pub(crate) fn of(&self, node: NodeId) -> Self {
        Self { node, axes: self.axes.clone() }
    }

    pub(crate) fn is_whole(&self, rank: usize) -> bool {
        self.axes.iter().copied().eq((0..rank).map(Some))
    }

    pub(crate) fn dims(&self, node_dims: &[usize]) -> Vec<usize> {
        self.axes.iter().map(|a| a.map_or(1, |axis| node_dims[axis])).collect()
    }

    /// The axes of the node that are not shown.
    pub(crate) fn hidden(&self, rank: usize) -> Vec<usize> {
        (0..rank).filter(|&axis| !self.axes.contains(&Some(axis))).collect()
    }

    pub(crate) fn transposed(&self, perm: &[usize]) -> Self {
        Self { node: self.node, axes: perm.iter().map(|&axis| self.axes[axis]).collect() }
    }

    pub(crate) fn without(&self, axes: &[usize]) -> Self {
        let kept = self.axes.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, &a)| a);
        Self { node: self.node, axes: kept.collect() }
    }

    /// With new axes of size 1 at the given places of the result, which are in order.
    pub(crate) fn with_new(&self, axes: &[usize]) -> Self {
        let mut all = self.axes.clone();
        axes.iter().for_each(|&axis| all.insert(axis, None));
        Self { node: self.node, axes: all }
    }

    /// As sizes `to`, where that only adds and drops axes of size 1; `None` where elements move
    /// between axes.
    pub(crate) fn resized(&self, from: &[usize], to: &[usize]) -> Option<Self> {
        let mut axes = vec![];
        let mut next = 0;
        for (place, &size) in to.iter().enumerate() {
            // Sizes of 1 that have no counterpart are dropped or added.
            while next < from.len() && from[next] == 1 && size != 1 {
                next += 1;
            }
            let counterpart = next < from.len() && from[next] == size && (size != 1 || keeps(from, to, next, place));
            if counterpart {
                axes.push(self.axes[next]);
                next += 1;
            } else if size == 1 {
                axes.push(None);
            } else {
                return None;
            }
        }
        from[next..].iter().all(|&size| size == 1).then_some(Self { node: self.node, axes })
    }
}

/// Whether the axis of size 1 at `next` of `from` is best matched with that at `place` of `to`: the
/// first axis, which is the batch, with the first, and any other where as many follow on both sides.
fn keeps(from: &[usize], to: &[usize], next: usize, place: usize) -> bool {
    let ones = |sizes: &[usize]| sizes.iter().take_while(|&&s| s == 1).count();
    (next == 0 && place == 0) || ones(&from[next..]) >= ones(&to[place..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Graph, Phase};

    fn view(rank: usize) -> View {
        let mut graph = Graph::new("g", Phase::Infer);
        View::whole(graph.add_input("x", crate::tensor::Shape::new(vec![1; rank]), None, None), rank)
    }

    #[test]
    fn axes_of_size_one_come_and_go() {
        let resized = |from: &[usize], to: &[usize]| view(from.len()).resized(from, to).map(|v| v.axes);
        let (n, c, h, w) = (Some(0), Some(1), Some(2), Some(3));
        assert_eq!(resized(&[2, 8, 1, 1], &[2, 8]), Some(vec![n, c]));
        assert_eq!(resized(&[1, 8, 1, 1], &[1, 8]), Some(vec![n, c]));
        assert_eq!(resized(&[1, 1, 5, 5], &[1, 5, 5]), Some(vec![n, h, w]));
        assert_eq!(resized(&[2, 8], &[2, 8, 1, 1]), Some(vec![n, c, None, None]));
        assert_eq!(resized(&[1, 8], &[1, 1, 8]), Some(vec![n, None, c]));
        assert_eq!(resized(&[2, 8, 3], &[2, 24]), None);
        assert_eq!(resized(&[2, 3], &[3, 2]), None);
        assert_eq!(resized(&[1, 4, 1, 7], &[4, 7]), Some(vec![c, w]));
        assert_eq!(resized(&[], &[1, 1]), Some(vec![None, None]));
        assert_eq!(resized(&[1, 1], &[]), Some(vec![]));
    }

    #[test]
    fn transpositions_cancel() {
        let v = view(4);
        assert_eq!(v.transposed(&[0, 2, 3, 1]).transposed(&[0, 3, 1, 2]), v);
        assert_eq!(v.with_new(&[2]).without(&[2]), v);
    }
}
