//! What differs between the uses of a module, and how its body says it.
//!
//! Every size in the body is a place that has a value in each use. Places with one value throughout
//! keep it. Of the others the first becomes a parameter; what follows is said by it where it can be:
//! the same value, a multiple of it, a multiple of the input's channels, a padding that keeps the size.

use std::collections::HashSet;

use super::modules::Module;
use super::naming;
use super::parts::{Part, Slot};
use super::structure::Join;
use crate::ir::{Graph, NodeId};
use crate::ops::layer::Value;

/// One use.
pub(crate) struct Instance<'p> {
    pub parts: &'p [Part],
    pub entry: NodeId,
}

/// A parameter of the module.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub name: String,
    pub default: Option<Value>,
    /// Of each use; any will do where it is none.
    pub arguments: Vec<Option<Value>>,
}

pub(crate) struct Found {
    pub params: Vec<Parameter>,
    pub body: Vec<Part>,
}

/// A place in the body whose value may differ.
#[derive(Clone, Debug)]
struct Place {
    /// The argument's name: `channels`, `stride`; [`SKIP`] of a residual's skip.
    arg: String,
    /// What a parameter for it would be called.
    suggestion: String,
    /// The block that it stands in, by number.
    block: usize,
}

/// When a place is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Size,
    Pad,
    Skip,
}

impl Place {
    fn turn(&self) -> Turn {
        match self.arg.as_str() {
            SKIP => Turn::Skip,
            arg if arg.starts_with("pad") => Turn::Pad,
            _ => Turn::Size,
        }
    }
}

/// What a size is of. Only sizes of one kind are said by one another: that a stride is as large as a kernel says nothing.
fn family(arg: &str) -> &'static str {
    let families = [("kernel", "kernel"), ("stride", "stride"), ("pad", "pad"), ("dilation", "pad")];
    families.iter().find(|(word, _)| arg.starts_with(word)).map_or("width", |(_, family)| family)
}

/// What a use has at a place.
#[derive(Clone, Debug)]
struct Sight {
    /// None where the use lacks that part.
    value: Option<Value>,
    /// Channels of the value that enters the block.
    channels: Option<usize>,
}

/// Whether a residual has its skip.
const SKIP: &str = "skip";

/// Finds the parameters of a module from its uses.
pub(crate) fn find(template: &[Part], instances: &[Instance], modules: &[Module], graph: &Graph) -> Found {
    let mut rows = vec![];
    let mut places = vec![];
    for instance in instances {
        let mut walk = Walk { graph, modules, places: vec![], sights: vec![], blocks: 0 };
        walk.block(template, Some(instance.parts), Some(instance.entry), None);
        rows.push(walk.sights);
        places = walk.places;
    }
    let mut solver = Solver { known: vec![], params: vec![] };
    let mut slots: Vec<Option<Slot>> = vec![None; places.len()];
    // A pad follows from what it makes up for. Whether there is a skip is said last, by what is known of the sizes.
    for turn in [Turn::Size, Turn::Pad, Turn::Skip] {
        for (i, place) in places.iter().enumerate().filter(|(_, p)| p.turn() == turn) {
            let column: Vec<&Sight> = rows.iter().map(|row| &row[i]).collect();
            slots[i] = Some(if turn == Turn::Skip { solver.skip(place, &column) } else { solver.size(place, &column) });
        }
    }
    let mut body = template.to_vec();
    fill(&mut body, &mut slots.into_iter().map(|s| s.expect("every place was solved")));
    Found { params: solver.finish(), body }
}

/// Walks the template and one use beside it, place by place.
struct Walk<'g> {
    graph: &'g Graph,
    modules: &'g [Module],
    places: Vec<Place>,
    sights: Vec<Sight>,
    blocks: usize,
}

impl Walk<'_> {
    /// `branch` is the number of the branch that the block is of a join.
    fn block(&mut self, template: &[Part], own: Option<&[Part]>, entry: Option<NodeId>, branch: Option<usize>) {
        self.blocks += 1;
        let block = self.blocks;
        let channels = entry.and_then(|e| self.graph.node(e).shape.dims().get(1).copied());
        for (i, part) in template.iter().enumerate() {
            let own = own.map(|o| &o[i]);
            match part {
                Part::Layer { args, .. } | Part::Call { args, .. } => {
                    let own = match own {
                        Some(Part::Layer { args, .. } | Part::Call { args, .. }) => Some(args),
                        _ => None,
                    };
                    for (a, (name, _)) in args.iter().enumerate().filter(|(_, (_, s))| is_place(s)) {
                        let value = own.and_then(|own| value_of(&own[a].1));
                        self.places.push(Place {
                            arg: name.clone(),
                            suggestion: naming::parameter(name, template, i, branch, self.modules),
                            block,
                        });
                        self.sights.push(Sight { value, channels });
                    }
                }
                Part::Join { kind, branches, .. } => self.join(*kind, branches, own, block, channels),
                Part::Scope { .. } | Part::From(_) | Part::Output { .. } => {}
            }
        }
    }

    fn join(&mut self, kind: Join, branches: &[Vec<Part>], own: Option<&Part>, block: usize, channels: Option<usize>) {
        let (own, entry) = match own {
            Some(Part::Join { branches, entry, .. }) => (Some(branches), Some(*entry)),
            _ => (None, None),
        };
        for (i, branch) in branches.iter().enumerate() {
            let mut own = own.map(|o| o[i].as_slice());
            if is_skip(kind, i, branch) {
                let value = own.map(|o| Value::Bool(!o.is_empty()));
                own = own.filter(|o| !o.is_empty());
                self.places.push(Place { arg: SKIP.into(), suggestion: "projection".into(), block });
                let entering = entry.and_then(|e| self.graph.node(e).shape.dims().get(1).copied());
                self.sights.push(Sight { value, channels: entering.or(channels) });
            }
            self.block(branch, own, entry, (kind == Join::Branches("concat")).then_some(i));
        }
    }
}

fn is_skip(kind: Join, index: usize, branch: &[Part]) -> bool {
    kind == Join::Residual && index == 1 && !branch.is_empty()
}

/// Sizes, and arguments of modules; words and lists are the same in all uses.
fn is_place(slot: &Slot) -> bool {
    matches!(slot, Slot::Value(Value::Int(_) | Value::Tuple(_) | Value::Bool(_)))
}

fn value_of(slot: &Slot) -> Option<Value> {
    match slot {
        Slot::Value(value) => Some(value.clone()),
        _ => None,
    }
}

/// Puts expressions in the places of a body, in the order in which [`Walk`] finds them.
fn fill(parts: &mut [Part], slots: &mut impl Iterator<Item = Slot>) {
    for part in parts {
        match part {
            Part::Layer { args, .. } | Part::Call { args, .. } => {
                for (_, slot) in args.iter_mut().filter(|(_, s)| is_place(s)) {
                    *slot = slots.next().expect("one a place");
                }
            }
            Part::Join { kind, branches, skip_if, .. } => {
                for (i, branch) in branches.iter_mut().enumerate() {
                    if is_skip(*kind, i, branch) {
                        *skip_if = match slots.next().expect("one a place") {
                            Slot::Text(condition) => Some(condition),
                            _ => None,
                        };
                    }
                    fill(branch, slots);
                }
            }
            Part::Scope { .. } | Part::From(_) | Part::Output { .. } => {}
        }
    }
}

/// An expression and its value in each use.
struct Known {
    text: String,
    values: Vec<Option<Value>>,
    /// `in` means another value in another block.
    block: Option<usize>,
    family: &'static str,
}

struct Solver {
    known: Vec<Known>,
    params: Vec<Parameter>,
}

/// Whether two columns agree where both have a value, and do so somewhere.
fn agree(a: &[Option<Value>], b: &[Option<Value>]) -> bool {
    let both = || a.iter().zip(b).filter_map(|(a, b)| Some((a.as_ref()?, b.as_ref()?)));
    both().next().is_some() && both().all(|(a, b)| a == b)
}

/// The one factor by which `values` are multiples of `base`, where there is one.
fn factor(values: &[Option<Value>], base: &[Option<Value>]) -> Option<i64> {
    let pairs = values.iter().zip(base).filter_map(|(v, b)| Some((int(v.as_ref()?)?, int(b.as_ref()?)?)));
    let factors: HashSet<Option<i64>> = pairs.map(|(v, b)| (b > 0 && v % b == 0).then(|| v / b)).collect();
    match factors.into_iter().collect::<Vec<_>>()[..] {
        [Some(factor @ 2..=16)] => Some(factor),
        _ => None,
    }
}

fn int(value: &Value) -> Option<i64> {
    if let Value::Int(v) = value { Some(*v) } else { None }
}

impl Solver {
    fn size(&mut self, place: &Place, column: &[&Sight]) -> Slot {
        let values: Vec<Option<Value>> = column.iter().map(|s| s.value.clone()).collect();
        let mut seen = values.iter().flatten();
        let first = seen.next().expect("the template has it").clone();
        if seen.all(|v| *v == first) {
            // What only some uses have, such as a projection's stride, is the parameter of that name.
            let namesake = self.params.iter().find(|p| p.name == place.arg && values.contains(&None));
            return match namesake.filter(|p| agree(&values, &p.arguments)) {
                Some(param) => Slot::Text(param.name.clone()),
                None => Slot::Value(first),
            };
        }
        let text = self.same(place, &values).or_else(|| self.derived(place, &values, column));
        Slot::Text(text.unwrap_or_else(|| self.parameter(&place.suggestion, &place.arg, values)))
    }

    /// What has this value already.
    fn same(&self, place: &Place, values: &[Option<Value>]) -> Option<String> {
        let fits = |k: &&Known| {
            k.family == family(&place.arg) && k.block.is_none_or(|b| b == place.block) && agree(values, &k.values)
        };
        self.known.iter().find(fits).map(|k| k.text.clone())
    }

    /// An expression of the input's channels or of parameters.
    fn derived(&mut self, place: &Place, values: &[Option<Value>], column: &[&Sight]) -> Option<String> {
        if place.turn() == Turn::Pad {
            return self.keeping_size(values);
        }
        const WIDTHS: [&str; 6] = ["channels", "groups", "features", "start", "end", "hidden"];
        if !WIDTHS.contains(&place.arg.as_str()) {
            return None;
        }
        let entering = channels(column);
        let text = multiple(values, &entering, "in.channels").map(|text| (text, Some(place.block))).or_else(|| {
            let params = self.params.iter().filter(|p| p.arguments.iter().flatten().all(|v| int(v).is_some()));
            let mut texts = params.filter_map(|p| multiple(values, &p.arguments, &p.name));
            texts.next().map(|text| (text, None))
        });
        let (text, block) = text?;
        self.known.push(Known { text: text.clone(), values: values.to_vec(), block, family: family(&place.arg) });
        Some(text)
    }

    /// `(kernel − 1) / 2` for a parameter that is a kernel, or a multiple of a dilation.
    fn keeping_size(&self, values: &[Option<Value>]) -> Option<String> {
        let dilations = self.params.iter().filter(|p| p.name.starts_with("dilation"));
        let of_dilation = || dilations.filter_map(|p| multiple(values, &p.arguments, &p.name)).next();
        of_dilation().or_else(|| self.half_a_kernel(values))
    }

    fn half_a_kernel(&self, values: &[Option<Value>]) -> Option<String> {
        self.params.iter().filter(|p| p.name.contains("kernel")).find_map(|p| {
            let half = |v: &Option<Value>| v.as_ref().and_then(int).map(|v| Value::Int((v - 1) / 2));
            let halves: Vec<Option<Value>> = p.arguments.iter().map(half).collect();
            let odd = p.arguments.iter().flatten().all(|v| int(v).is_some_and(|v| v % 2 == 1));
            (odd && agree(values, &halves)).then(|| format!("({} - 1) / 2", p.name))
        })
    }

    fn parameter(&mut self, suggestion: &str, arg: &str, values: Vec<Option<Value>>) -> String {
        let mut taken: HashSet<String> = self.params.iter().map(|p| p.name.clone()).collect();
        let name = naming::unique(suggestion, &mut taken);
        let default = default_of(arg, &values);
        self.known.push(Known { text: name.clone(), values: values.clone(), block: None, family: family(arg) });
        self.params.push(Parameter { name: name.clone(), default, arguments: values });
        name
    }

    /// When a residual has its skip: always, by a rule that sizes give, or by a parameter.
    fn skip(&mut self, place: &Place, column: &[&Sight]) -> Slot {
        let values: Vec<Option<Value>> = column.iter().map(|s| s.value.clone()).collect();
        if !values.contains(&Some(Value::Bool(false))) {
            return Slot::Value(Value::Bool(true));
        }
        let rules = self.rules(column);
        let truth = |rule: &Rule| -> Vec<Option<Value>> { rule.holds.iter().map(|h| Some(Value::Bool(*h))).collect() };
        let either = |a: &Rule, b: &Rule| Rule {
            text: format!("{} or {}", a.text, b.text),
            holds: a.holds.iter().zip(&b.holds).map(|(a, b)| *a || *b).collect(),
        };
        let pairs = rules.iter().enumerate().flat_map(|(i, a)| rules[i + 1..].iter().map(move |b| either(a, b)));
        let pairs: Vec<Rule> = pairs.collect();
        let rule = pairs.iter().chain(&rules).find(|rule| agree(&values, &truth(rule)));
        Slot::Text(match rule {
            Some(rule) => rule.text.clone(),
            None => self.parameter(&place.suggestion, SKIP, values),
        })
    }

    /// Conditions that a person would write: a stride that is not 1, channels that change.
    fn rules(&self, column: &[&Sight]) -> Vec<Rule> {
        let mut rules = vec![];
        for p in self.params.iter().filter(|p| p.name.contains("stride")) {
            let holds = p.arguments.iter().map(|v| v.as_ref() != Some(&Value::Int(1))).collect();
            rules.push(Rule { text: format!("{} != 1", p.name), holds });
        }
        let entering = channels(column);
        let of_block = |k: &&Known| k.text.contains("channels") && k.block.is_none();
        for k in self.known.iter().filter(of_block) {
            let holds = k.values.iter().zip(&entering).map(|(v, e)| v != e).collect();
            rules.push(Rule { text: format!("in.channels != {}", k.text), holds });
        }
        rules
    }

    /// The parameters, those without a default first, and of these, widths before kernels.
    fn finish(self) -> Vec<Parameter> {
        let (with, mut without): (Vec<_>, Vec<_>) = self.params.into_iter().partition(|p| p.default.is_some());
        without.sort_by_key(|p| p.name.starts_with("kernel"));
        without.into_iter().chain(with).collect()
    }
}

struct Rule {
    text: String,
    /// In each use.
    holds: Vec<bool>,
}

fn channels(column: &[&Sight]) -> Vec<Option<Value>> {
    column.iter().map(|s| s.channels.map(|c| Value::Int(c as i64))).collect()
}

/// `base`, `4 * base` or `base / 4`, where that is what the values are.
fn multiple(values: &[Option<Value>], base: &[Option<Value>], name: &str) -> Option<String> {
    if agree(values, base) {
        return Some(name.into());
    }
    match (factor(values, base), factor(base, values)) {
        (Some(factor), _) => Some(format!("{factor} * {name}")),
        (_, Some(factor)) => Some(format!("{name} / {factor}")),
        _ => None,
    }
}

/// What most uses have, where that is a habit rather than a size of the network.
fn default_of(arg: &str, values: &[Option<Value>]) -> Option<Value> {
    if matches!(arg, "channels" | "features" | "kernel") {
        return None;
    }
    let seen: Vec<&Value> = values.iter().flatten().collect();
    let one = Value::Int(1);
    if matches!(arg, "stride" | "dilation" | "groups") && seen.contains(&&one) {
        return Some(one);
    }
    let count = |v: &Value| seen.iter().filter(|s| **s == v).count();
    let most = seen.iter().max_by_key(|v| count(v))?;
    (count(most) * 2 >= seen.len()).then(|| (*most).clone())
}
