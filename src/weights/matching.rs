//! Names for weights that are called otherwise than the network calls them: a guess, by order and
//! shape, for a person to look at.
//!
//! Two programs that build the same network mostly build it in the same order. So what is missing,
//! in the network's order, and what is unknown, in the file's, are aligned as two texts are by a
//! comparison of lines, layer by layer: as many pairs of equal shape and role as an order allows,
//! similar names preferred. What then is left alone with its shape on both sides is a pair as well.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::load::Misfit;
use crate::tensor::Shape;

/// A tensor of the file, and the weight that it could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub from: String,
    pub to: String,
    pub shape: Shape,
}

impl Pair {
    fn of(to: &Item, from: &Item) -> Self {
        Self { from: from.name.into(), to: to.name.into(), shape: to.shape.clone() }
    }
}

/// Cells of the table of an alignment; larger files are paired by shape alone.
const MAX_CELLS: usize = 1 << 24;
/// What a pair is worth, beside the similarity of its names, which is at most [`SIMILAR`].
const PAIR: u32 = 256;
const SIMILAR: f64 = 64.0;
/// By how much a pair's names must be more alike where order says nothing.
const DOUBT: u32 = 8;

/// What a weight is to its layer, whatever framework named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Role {
    Factor,
    Term,
    Mean,
    Variance,
}

impl Role {
    fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let ends = |words: &[&str]| {
            words.iter().any(|w| {
                let before = name.strip_suffix(w).map(|rest| rest.chars().next_back());
                before.is_some_and(|c| c.is_none_or(|c| !c.is_ascii_alphanumeric()))
            })
        };
        match () {
            () if ends(&["mean"]) => Role::Mean,
            () if ends(&["var", "variance"]) => Role::Variance,
            () if ends(&["bias", "biases", "beta", "b", "shift", "offset"]) => Role::Term,
            () => Role::Factor,
        }
    }
}

struct Item<'m> {
    name: &'m str,
    shape: &'m Shape,
    role: Role,
}

impl<'m> Item<'m> {
    fn new(name: &'m str, shape: &'m Shape) -> Self {
        Self { name, shape, role: Role::of(name) }
    }

    /// What comes before the last word of the name.
    fn layer(&self) -> &'m str {
        let end = self.name.rfind(['.', '/']).or_else(|| self.name.rfind('_'));
        end.map_or("", |end| &self.name[..end])
    }

    fn could_be(&self, other: &Self) -> bool {
        self.role == other.role && self.shape.dims() == other.shape.dims()
    }
}

/// Pairs of what a file has too many and a network lacks. Each tensor is in one pair at most.
pub(crate) fn propose(misfit: &Misfit) -> Vec<Pair> {
    let places: HashMap<&str, usize> = misfit.missing.iter().enumerate().map(|(i, m)| (m.name.as_str(), i)).collect();
    let wanted = || misfit.missing.iter().map(|m| Item::new(&m.name, &m.shape)).collect();
    let given = || misfit.unexpected.iter().map(|u| Item::new(&u.name, &u.shape)).collect();
    // Some files keep the order of the program, others have that of an alphabet, or none. Where a kind of
    // tensors is sorted on both sides, no order is left but that of the names: they have to speak for it.
    let candidates = [
        (by_layer(wanted(), false), by_layer(given(), false), 0),
        (by_layer(wanted(), false), by_layer(given(), true), 0),
        (by_kind(wanted()), by_kind(given()), DOUBT),
    ];
    let [first, second, third] = candidates.map(|(wanted, given, doubt)| {
        let pairs = paired(&wanted, &given);
        let found: Vec<Pair> = pairs.iter().map(|(to, from)| Pair::of(to, from)).collect();
        (worth(&pairs).saturating_sub(doubt * pairs.len() as u32), found)
    });
    let best = [second, third].into_iter().fold(first, |best, next| if next.0 > best.0 { next } else { best });
    let mut pairs = best.1;
    pairs.sort_by_key(|pair| places[pair.to.as_str()]);
    pairs
}

/// Pairs by an alignment, and of what is left those of which there is one.
fn paired<'a, 'm>(wanted: &'a [Item<'m>], given: &'a [Item<'m>]) -> Vec<(&'a Item<'m>, &'a Item<'m>)> {
    let mut partner = align(wanted, given);
    pair_the_only_ones(wanted, given, &mut partner);
    wanted.iter().zip(&partner).filter_map(|(to, from)| Some((to, &given[(*from)?]))).collect()
}

/// What pairs are worth. Where the tensors of a layer come from several, all but those of the first are
/// worth nothing.
fn worth(pairs: &[(&Item, &Item)]) -> u32 {
    let mut layers = HashMap::new();
    let mut worth = 0;
    for (to, from) in pairs {
        if *layers.entry(to.layer()).or_insert(from.layer()) == from.layer() {
            worth += gain(to, from).unwrap_or_default();
        }
    }
    worth
}

/// What a pair is worth, where it can be one.
fn gain(wanted: &Item, given: &Item) -> Option<u32> {
    let similar = || (strsim::sorensen_dice(wanted.name, given.name) * SIMILAR) as u32;
    wanted.could_be(given).then(|| PAIR + similar())
}

/// The items layer by layer, those of a layer in the order of their roles. Layers are in the order
/// in which they come first, or in that of their names.
fn by_layer(mut items: Vec<Item>, natural_order: bool) -> Vec<Item> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    for item in &items {
        let next = places.len();
        places.entry(item.layer()).or_insert(next);
    }
    items.sort_by(|a, b| {
        let layers = match natural_order {
            true => natural(a.layer(), b.layer()),
            false => places[a.layer()].cmp(&places[b.layer()]),
        };
        layers.then(a.role.cmp(&b.role))
    });
    items
}

/// The items of a role and a shape together, in the order of their names.
fn by_kind(mut items: Vec<Item>) -> Vec<Item> {
    items.sort_by(|a, b| {
        let kinds = a.role.cmp(&b.role).then_with(|| a.shape.dims().cmp(b.shape.dims()));
        kinds.then_with(|| natural(a.name, b.name))
    });
    items
}

/// The pairs as a table for `--weight-map`. Names that the table's notation cannot hold are left out.
pub(crate) fn table(pairs: &[Pair]) -> String {
    let writable = |name: &str| !name.contains(['=', '#', '\n']) && name.trim() == name;
    let line = |p: &Pair| format!("{} = {}\n", p.from, p.to);
    let lines: String = pairs.iter().filter(|p| writable(&p.from) && writable(&p.to)).map(line).collect();
    format!("# name in the file = name in the network; guessed by order and shape\n{lines}")
}

/// Names with numbers by their values.
fn natural(a: &str, b: &str) -> Ordering {
    let key = |name: &str| -> Vec<(bool, u64, String)> {
        let mut parts: Vec<(bool, u64, String)> = vec![];
        for c in name.chars() {
            let digit = c.is_ascii_digit();
            match parts.last_mut().filter(|p| p.0 == digit) {
                Some(part) => part.2.push(c),
                None => parts.push((digit, 0, c.to_string())),
            }
        }
        parts.iter_mut().filter(|p| p.0).for_each(|p| p.1 = p.2.parse().unwrap_or(u64::MAX));
        parts
    };
    key(a).cmp(&key(b))
}

/// The partner of each wanted item in the best alignment. `worth[i][j]` is
/// what can be had of the items from `i` on on the one side and from `j` on on the other.
fn align(wanted: &[Item], given: &[Item]) -> Vec<Option<usize>> {
    let width = given.len() + 1;
    let mut partner: Vec<Option<usize>> = vec![None; wanted.len()];
    if (wanted.len() + 1).saturating_mul(width) > MAX_CELLS {
        return partner;
    }
    let mut worth = vec![0u32; (wanted.len() + 1) * width];
    let gain = |i: usize, j: usize| gain(&wanted[i], &given[j]);
    for i in (0..wanted.len()).rev() {
        for j in (0..given.len()).rev() {
            let skipped = worth[(i + 1) * width + j].max(worth[i * width + j + 1]);
            let paired = gain(i, j).map_or(0, |gain| gain + worth[(i + 1) * width + j + 1]);
            worth[i * width + j] = skipped.max(paired);
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < wanted.len() && j < given.len() {
        let here = worth[i * width + j];
        if gain(i, j).is_some_and(|gain| gain + worth[(i + 1) * width + j + 1] == here) {
            partner[i] = Some(j);
            (i, j) = (i + 1, j + 1);
        } else if worth[(i + 1) * width + j] == here {
            i += 1;
        } else {
            j += 1;
        }
    }
    partner
}

/// Items without partner of which there is one of a kind on either side.
fn pair_the_only_ones(wanted: &[Item], given: &[Item], partner: &mut [Option<usize>]) {
    let paired: HashSet<usize> = partner.iter().flatten().copied().collect();
    let mut kinds: HashMap<(Role, &[usize]), [Vec<usize>; 2]> = HashMap::new();
    for i in (0..wanted.len()).filter(|&i| partner[i].is_none()) {
        kinds.entry((wanted[i].role, wanted[i].shape.dims())).or_default()[0].push(i);
    }
    for j in (0..given.len()).filter(|j| !paired.contains(j)) {
        kinds.entry((given[j].role, given[j].shape.dims())).or_default()[1].push(j);
    }
    for kind in kinds.values() {
        if let [[i], [j]] = kind.each_ref().map(Vec::as_slice) {
            partner[*i] = Some(*j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{Missing, Unexpected};
    use super::*;

    fn misfit(missing: &[(&str, &[usize])], unexpected: &[(&str, &[usize])]) -> Misfit {
        let missing =
            missing.iter().map(|(n, s)| Missing { name: n.to_string(), shape: Shape::new(*s), nearest: None });
        let unexpected =
            unexpected.iter().map(|(n, s)| Unexpected { name: n.to_string(), shape: Shape::new(*s), nearest: None });
        Misfit { missing: missing.collect(), unexpected: unexpected.collect(), ..Misfit::default() }
    }

    fn proposed(missing: &[(&str, &[usize])], unexpected: &[(&str, &[usize])]) -> String {
        table(&propose(&misfit(missing, unexpected))).lines().skip(1).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn equal_shapes_are_paired_in_order() {
        let conv: &[usize] = &[8, 8, 3, 3];
        let vector: &[usize] = &[8];
        let network = [
            ("conv1.weight", conv),
            ("bn1.weight", vector),
            ("bn1.bias", vector),
            ("bn1.running_mean", vector),
            ("conv2.weight", conv),
            ("fc.weight", &[10, 8]),
        ];
        // Alphabetical, another order of roles, and more than the network has.
        let file = [
            ("extra", conv),
            ("l10/kernel", conv),
            ("l2/beta", vector),
            ("l2/gamma", vector),
            ("l2/moving_mean", vector),
            ("l9/kernel", conv),
            ("top", &[9, 8][..]),
            ("zz", &[10, 8]),
        ];
        insta::assert_snapshot!(proposed(&network, &file));
    }

    #[test]
    fn names_break_ties_and_single_ones_match_against_the_order() {
        let conv: &[usize] = &[4, 4, 1, 1];
        assert_eq!(
            proposed(&[("b.weight", conv)], &[("x.a.weight", conv), ("x.b.weight", conv)]),
            "x.b.weight = b.weight"
        );
        let network = [("head.weight", &[2, 4][..]), ("stem.weight", conv)];
        let file = [("m.stem.weight", conv), ("m.top.weight", &[2, 4][..])];
        assert_eq!(proposed(&network, &file).lines().count(), 2);
        assert_eq!(proposed(&[("a", conv)], &[("b", &[4])]), "");
    }

    /// Files of safetensors are sorted by name, so that a block's norms come before its convolutions or behind them.
    #[test]
    fn names_speak_where_a_file_is_sorted() {
        let (conv, vector): (&[usize], &[usize]) = (&[8, 8, 3, 3], &[8]);
        let layers = |words: [&str; 3]| -> Vec<(String, &[usize])> {
            let [stage, convolution, norm] = words;
            let name = |i: usize, layer: &str, j: usize| format!("{stage}{i}.{layer}{j}.weight");
            let layer = |n: usize| [(name(n / 2, convolution, n % 2), conv), (name(n / 2, norm, n % 2), vector)];
            (0..24).flat_map(layer).collect()
        };
        let (network, mut file) = (layers(["layer", "conv", "bn"]), layers(["stage", "conv", "norm"]));
        file.sort();
        let network: Vec<(&str, &[usize])> = network.iter().map(|(n, s)| (n.as_str(), *s)).collect();
        let file: Vec<(&str, &[usize])> = file.iter().map(|(n, s)| (n.as_str(), *s)).collect();
        let table = proposed(&network, &file);
        assert_eq!(table.lines().count(), 48);
        for line in table.lines() {
            let (from, to) = line.split_once(" = ").unwrap();
            assert_eq!(from.replace("stage", "layer").replace("norm", "bn"), to);
        }
    }

    #[test]
    fn what_the_table_cannot_hold_is_left_out() {
        let shape: &[usize] = &[1];
        assert_eq!(proposed(&[("a", shape)], &[("b=c", shape)]), "");
    }
}
