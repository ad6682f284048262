//! Operators and functions of expressions, on values alone.

use super::value::{Items, MAX_ITEMS, MAX_STRING, Val};
use crate::syntax::ast::BinaryOp;

/// The functions of expressions, with the smallest and largest number of arguments.
pub(crate) const FUNCTIONS: &[(&str, usize, usize)] = &[
    ("min", 1, usize::MAX),
    ("max", 1, usize::MAX),
    ("sum", 1, 1),
    ("len", 1, 1),
    ("abs", 1, 1),
    ("floor", 1, 1),
    ("ceil", 1, 1),
    ("round", 1, 1),
    ("sqrt", 1, 1),
    ("exp", 1, 1),
    ("log", 1, 1),
    ("log2", 1, 1),
    ("sin", 1, 1),
    ("cos", 1, 1),
    ("enumerate", 1, 1),
    ("zip", 2, 2),
];

/// What is wrong with an operation: the message, and a help.
pub(crate) type Fault = (String, Option<&'static str>);

pub(crate) fn fault<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err((message.into(), None))
}

/// The value of a binary operation; `and` and `or` are not among them.
pub(crate) fn apply(op: BinaryOp, a: &Val, b: &Val) -> Result<Val, Fault> {
    match op {
        BinaryOp::Eq => return Ok(Val::Bool(a.equals(b))),
        BinaryOp::Ne => return Ok(Val::Bool(!a.equals(b))),
        BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => return compare(op, a, b),
        BinaryOp::In => return contains(b, a).map(Val::Bool),
        _ => {}
    }
    match (op, a, b) {
        (_, Val::Int(a), Val::Int(b)) => integers(op, *a, *b),
        (BinaryOp::Add, Val::Str(a), Val::Str(b)) => {
            if a.len() + b.len() > MAX_STRING {
                return fault(format!("a string of more than {MAX_STRING} bytes"));
            }
            Ok(Val::Str(format!("{a}{b}").into()))
        }
        (BinaryOp::Add, Val::List(a), Val::List(b)) => match Items::new([a.values(), b.values()].concat()) {
            Some(items) => Ok(Val::List(items)),
            None => fault(format!("a list of more than {MAX_ITEMS} values")),
        },
        _ => match (a.number(), b.number()) {
            (Some(a), Some(b)) => floats(op, a, b),
            _ if op == BinaryOp::Mul && [a, b].iter().any(|v| matches!(v, Val::List(_))) => Err((
                "`*` does not go with lists".into(),
                Some("`[x for i in 0..n]` is a list of n times x, and `[2 * x for x in xs]` one of products"),
            )),
            _ => {
                let message = format!("`{}` does not go with these types", op.symbol());
                let are_values = [a, b].iter().any(|v| matches!(v, Val::Node(_)));
                Err((message, are_values.then_some("layers join values of the network: `add(label)`, `mul(label)`")))
            }
        },
    }
}

fn compare(op: BinaryOp, a: &Val, b: &Val) -> Result<Val, Fault> {
    let order = match (a, b) {
        (Val::Int(a), Val::Int(b)) => Some(a.cmp(b)),
        (Val::Str(a), Val::Str(b)) => Some(a.cmp(b)),
        _ => match (a.number(), b.number()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => None,
        },
    };
    let Some(order) = order else {
        return fault("these have no order");
    };
    Ok(Val::Bool(match op {
        BinaryOp::Lt => order.is_lt(),
        BinaryOp::Le => order.is_le(),
        BinaryOp::Gt => order.is_gt(),
        _ => order.is_ge(),
    }))
}

/// Whether a list, tuple, row or range holds a value, or a table a row that begins with it.
fn contains(list: &Val, value: &Val) -> Result<bool, Fault> {
    match list {
        Val::Range(start, end) => Ok(value.integer().is_some_and(|v| (*start..*end).contains(&v))),
        Val::Table(table) => Ok(table.rows.iter().any(|row| row.first().is_some_and(|cell| cell.equals(value)))),
        other => match other.parts() {
            Some(parts) => Ok(parts.iter().any(|part| part.equals(value))),
            None => Err((
                format!("{} holds no values that `in` could look for", other.type_name()),
                Some("look in a list: `x in [1, 2]`"),
            )),
        },
    }
}

fn integers(op: BinaryOp, a: i64, b: i64) -> Result<Val, Fault> {
    let overflow = || ("the result is too large for an integer".to_string(), None);
    let checked = |v: Option<i64>| v.map(Val::Int).ok_or_else(overflow);
    match op {
        BinaryOp::Add => checked(a.checked_add(b)),
        BinaryOp::Sub => checked(a.checked_sub(b)),
        BinaryOp::Mul => checked(a.checked_mul(b)),
        BinaryOp::Div | BinaryOp::Rem if b == 0 => fault("division by zero"),
        BinaryOp::Rem => checked(a.checked_rem_euclid(b)),
        // Exact: an integer where it divides, a float where it does not.
        BinaryOp::Div if a.checked_rem(b) == Some(0) => checked(a.checked_div(b)),
        BinaryOp::Pow if b >= 0 => checked(u32::try_from(b).ok().and_then(|b| a.checked_pow(b))),
        _ => floats(op, a as f64, b as f64),
    }
}

fn floats(op: BinaryOp, a: f64, b: f64) -> Result<Val, Fault> {
    let value = match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div if b == 0.0 => return fault("division by zero"),
        BinaryOp::Div => a / b,
        BinaryOp::Rem if b == 0.0 => return fault("division by zero"),
        BinaryOp::Rem => a.rem_euclid(b),
        BinaryOp::Pow => a.powf(b),
        _ => return fault(format!("`{}` does not go with numbers", op.symbol())),
    };
    if value.is_finite() { Ok(Val::Float(value)) } else { fault("the result is no finite number") }
}

/// The value of a function other than `enumerate` and `zip`, whose arguments' number is right.
pub(crate) fn call_function(name: &str, values: &[Val]) -> Result<Val, Fault> {
    let first = &values[0];
    let number =
        |v: &Val| v.number().ok_or_else(|| (format!("`{name}` takes numbers, this is {}", v.type_name()), None));
    let whole = |v: f64| if v.abs() < 9e15 { Ok(Val::Int(v as i64)) } else { fault("the result is too large") };
    match name {
        "len" => match first {
            Val::Str(s) => Ok(Val::Int(s.chars().count() as i64)),
            Val::Table(t) => Ok(Val::Int(t.rows.len() as i64)),
            Val::Range(start, end) => Ok(Val::Int(end.saturating_sub(*start).max(0))),
            other => match other.parts() {
                Some(parts) => Ok(Val::Int(parts.len() as i64)),
                None => fault(format!("{} has no length", other.type_name())),
            },
        },
        "abs" => match first {
            Val::Int(v) => v.checked_abs().map(Val::Int).ok_or_else(|| ("the result is too large".into(), None)),
            other => number(other).map(|v| Val::Float(v.abs())),
        },
        "floor" => whole(number(first)?.floor()),
        "ceil" => whole(number(first)?.ceil()),
        "round" => whole(number(first)?.round()),
        "sqrt" => match number(first)? {
            v if v < 0.0 => fault("the root of a negative number"),
            v => Ok(Val::Float(v.sqrt())),
        },
        "log" | "log2" => match number(first)? {
            v if v <= 0.0 => fault("the logarithm of a number that is not above 0"),
            v => Ok(Val::Float(if name == "log2" { v.log2() } else { v.ln() })),
        },
        "exp" => match number(first)?.exp() {
            v if v.is_finite() => Ok(Val::Float(v)),
            _ => fault("the result is no finite number"),
        },
        "sin" => Ok(Val::Float(number(first)?.sin())),
        "cos" => Ok(Val::Float(number(first)?.cos())),
        _ => fold_function(
            name,
            match first.parts() {
                Some(parts) if values.len() == 1 => parts,
                _ => values,
            },
        ),
    }
}

/// `min`, `max` and `sum` of several values, or of those of one list.
fn fold_function(name: &str, values: &[Val]) -> Result<Val, Fault> {
    let pick = |op: BinaryOp| {
        let mut values = values.iter();
        let Some(first) = values.next() else { return fault(format!("`{name}` of nothing")) };
        values.try_fold(first.clone(), |best, v| match compare(op, v, &best)? {
            Val::Bool(true) => Ok(v.clone()),
            _ => Ok(best),
        })
    };
    match name {
        "min" => pick(BinaryOp::Lt),
        "max" => pick(BinaryOp::Gt),
        _ => values.iter().try_fold(Val::Int(0), |sum, v| apply(BinaryOp::Add, &sum, v)),
    }
}
