//! Compile-time values while a program is evaluated.

use crate::ir::NodeId;
use crate::ops::layer::Value;
use std::rc::Rc;

/// A string may hold no more bytes than this.
pub(crate) const MAX_STRING: usize = 1 << 16;
/// A list may hold no more values than this, those of inner lists counted in.
pub(crate) const MAX_ITEMS: usize = 1 << 16;
/// Lists may nest no deeper than this.
pub(crate) const MAX_DEPTH: usize = 16;

#[derive(Clone, Debug)]
pub(crate) enum Val {
    Int(i64),
    Float(f64),
    Bool(bool),
    Str(Rc<str>),
    List(Rc<Items>),
    Tuple(Rc<Items>),
    /// start..end
    Range(i64, i64),
    Table(Rc<TableValue>),
    Row(Rc<TableValue>, usize),
    /// A value of the network: a label, an input, `in`.
    Node(NodeId),
    /// What could not be evaluated, which has been reported. Swallows every operation.
    Unknown,
}

/// The values of a list or tuple, within the limits of this module.
#[derive(Debug)]
pub(crate) struct Items {
    values: Vec<Val>,
    size: usize,
    depth: usize,
}

impl Items {
    /// `None` where the limits are exceeded.
    pub(crate) fn new(values: Vec<Val>) -> Option<Rc<Items>> {
        let inner = |v: &Val| match v {
            Val::List(i) | Val::Tuple(i) => (i.size, i.depth),
            _ => (1, 0),
        };
        let size = values.iter().map(|v| inner(v).0).sum::<usize>().max(1);
        let depth = 1 + values.iter().map(|v| inner(v).1).max().unwrap_or(0);
        (size <= MAX_ITEMS && depth <= MAX_DEPTH).then(|| Rc::new(Items { values, size, depth }))
    }

    pub(crate) fn values(&self) -> &[Val] {
        &self.values
    }
}

/// A table of the language. Each row has a cell for each column.
#[derive(Debug)]
pub(crate) struct TableValue {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Val>>,
}

impl Val {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Val::Int(_) => "an integer",
            Val::Float(_) => "a float",
            Val::Bool(_) => "a truth value",
            Val::Str(_) => "a string",
            Val::List(_) => "a list",
            Val::Tuple(_) => "a tuple",
            Val::Range(..) => "a range",
            Val::Table(_) => "a table",
            Val::Row(..) => "a table's row",
            Val::Node(_) => "a value of the network",
            Val::Unknown => "unknown",
        }
    }

    /// As the language writes it, for a message: strings in quotes, long values cut short.
    pub(crate) fn quoted(&self) -> String {
        const SHOWN: usize = 60;
        let whole = match self {
            Val::Str(s) => format!("{s:?}"),
            other => other.to_string(),
        };
        match whole.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &whole[..end]),
            None => whole,
        }
    }

    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Val::Unknown)
    }

    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Val::Int(v) => Some(*v as f64),
            Val::Float(v) => Some(*v),
            _ => None,
        }
    }

    /// The integer that this is, a whole float included.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Val::Int(v) => Some(*v),
            Val::Float(v) if v.fract() == 0.0 && v.abs() < 9e15 => Some(*v as i64),
            _ => None,
        }
    }

    /// The parts of a list, tuple or row.
    pub(crate) fn parts(&self) -> Option<&[Val]> {
        match self {
            Val::List(items) | Val::Tuple(items) => Some(items.values()),
            Val::Row(table, row) => Some(&table.rows[*row]),
            _ => None,
        }
    }

    /// Equality as `==` has it: numbers by value, whatever their types.
    pub(crate) fn equals(&self, other: &Val) -> bool {
        match (self, other) {
            (Val::Int(a), Val::Int(b)) => a == b,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::Str(a), Val::Str(b)) => a == b,
            (Val::Range(a, b), Val::Range(c, d)) => (a, b) == (c, d),
            (Val::Node(a), Val::Node(b)) => a == b,
            (Val::List(_), Val::Tuple(_)) | (Val::Tuple(_), Val::List(_)) => false,
            _ => match (self.number(), other.number(), self.parts(), other.parts()) {
                (Some(a), Some(b), ..) => a == b,
                (_, _, Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b)),
                _ => false,
            },
        }
    }
}

/// As in a template: strings without quotes at the top.
impl std::fmt::Display for Val {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |items: &[Val]| items.iter().map(Val::quoted).collect::<Vec<_>>().join(", ");
        match self {
            Val::Int(v) => write!(f, "{v}"),
            Val::Float(v) => write!(f, "{v:?}"),
            Val::Bool(v) => write!(f, "{v}"),
            Val::Str(v) => f.write_str(v),
            Val::List(items) => write!(f, "[{}]", list(items.values())),
            Val::Tuple(items) => write!(f, "({})", list(items.values())),
            Val::Range(start, end) => write!(f, "{start}..{end}"),
            Val::Row(table, row) => write!(f, "({})", list(&table.rows[*row])),
            other => f.write_str(other.type_name()),
        }
    }
}

impl From<&Value> for Val {
    fn from(value: &Value) -> Val {
        let items = |v: &[Value]| Items::new(v.iter().map(Val::from).collect());
        match value {
            Value::Int(v) => Val::Int(*v),
            Value::Float(v) => Val::Float(*v),
            Value::Bool(v) => Val::Bool(*v),
            Value::Str(v) => Val::Str(v.as_str().into()),
            Value::List(v) => items(v).map_or(Val::Unknown, Val::List),
            Value::Tuple(v) => items(v).map_or(Val::Unknown, Val::Tuple),
        }
    }
}
