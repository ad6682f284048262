//! Labels, strings and expressions: pairs → tree.

use super::{AstBuilder, children};
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::*;
use crate::syntax::grammar::{NetcParser, Rule};
use crate::syntax::tokens;
use crate::syntax::{MAX_NESTING, MAX_OPERATORS};
use pest::Parser;
use pest::iterators::Pair;
use pest::pratt_parser::{Assoc, Op, PrattParser};
use std::sync::LazyLock;

impl AstBuilder<'_> {
    pub(super) fn label(&mut self, pair: Pair<'_, Rule>) -> Label {
        let span = self.span(&pair);
        let mut parts = vec![];
        for (i, part) in children(pair).enumerate() {
            if part.as_rule() == Rule::string {
                return Label { parts: self.template(part), span };
            }
            if i > 0 {
                parts.push(TemplatePart::Text(".".into()));
            }
            parts.extend(children(part).map(|piece| match piece.as_rule() {
                Rule::interpolation => TemplatePart::Expr(self.expr(children(piece).next().expect("an expression"))),
                _ => TemplatePart::Text(piece.as_str().to_string()),
            }));
        }
        Label { parts, span }
    }

    pub(super) fn string(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let span = self.span(&pair);
        Expr { kind: ExprKind::Template(self.template(pair)), span }
    }

    /// Resolves the escapes of a string and parses what stands in its braces.
    pub(super) fn template(&mut self, pair: Pair<'_, Rule>) -> Vec<TemplatePart> {
        let base = pair.as_span().start() + 1;
        let inner = &pair.as_str()[1..pair.as_str().len() - 1];
        let (mut parts, mut text) = (vec![], String::new());
        let mut chars = inner.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, c @ ('"' | '\\' | '{' | '}'))) => text.push(c),
                    other => self.unknown_escape(base + at, other.map_or(1, |(_, c)| 1 + c.len_utf8())),
                },
                '{' => {
                    let length = inner[at + 1..].find('}');
                    let span = Span::new(self.source, base + at, base + at + 1);
                    let Some(length) = length else {
                        let message = "a `{` in a string is never closed";
                        self.diagnostics.push(
                            Diagnostic::error("unclosed-template", message)
                                .primary(span, "opens an expression")
                                .help("write `\\{` for the sign itself"),
                        );
                        break;
                    };
                    if !text.is_empty() {
                        parts.push(TemplatePart::Text(std::mem::take(&mut text)));
                    }
                    let inner = at + 1..at + 1 + length;
                    parts.push(TemplatePart::Expr(self.template_expr(base + inner.start, base + inner.end)));
                    while chars.next_if(|&(i, _)| i <= inner.end).is_some() {}
                }
                c => text.push(c),
            }
        }
        if !text.is_empty() {
            parts.push(TemplatePart::Text(text));
        }
        parts
    }

    fn unknown_escape(&mut self, start: usize, length: usize) {
        let span = Span::new(self.source, start, start + length);
        self.diagnostics.push(
            Diagnostic::error("unknown-escape", "unknown escape in a string")
                .primary(span, "no such escape")
                .help(r#"the escapes are \n, \", \\, \{ and \}"#),
        );
    }

    fn template_expr(&mut self, start: usize, end: usize) -> Expr {
        let span = Span::new(self.source, start, end);
        let text = &self.text[start..end];
        let failed = |builder: &mut Self| {
            let message = "what stands in the braces of this string is no expression";
            builder.diagnostics.push(
                Diagnostic::error("bad-template", message)
                    .primary(span, "expected an expression")
                    .help("write `\\{` for the sign itself"),
            );
            Expr { kind: ExprKind::Error, span }
        };
        if tokens::too_deep(text, &tokens::scan(text), MAX_NESTING).is_some() {
            return failed(self);
        }
        let Ok(mut pairs) = NetcParser::parse(Rule::template, text) else {
            return failed(self);
        };
        let expr = children(pairs.next().expect("template")).next().expect("an expression");
        let tokens = tokens::scan(text);
        let mut inner = AstBuilder { base: start, text, tokens: &tokens, diagnostics: vec![], ..*self };
        let expr = inner.expr(expr);
        self.diagnostics.append(&mut inner.diagnostics);
        expr
    }

    pub(crate) fn expr(&mut self, pair: Pair<'_, Rule>) -> Expr {
        if operators(&pair) > MAX_OPERATORS {
            let span = self.span(&pair);
            let message = format!("an expression of more than {MAX_OPERATORS} operators");
            self.diagnostics.push(
                Diagnostic::error("expression-too-long", message)
                    .primary(span, "too long")
                    .help("name parts of it with `let`"),
            );
            return Expr { kind: ExprKind::Error, span };
        }
        self.checked_expr(pair)
    }

    fn checked_expr(&mut self, pair: Pair<'_, Rule>) -> Expr {
        // The three closures of a Pratt parser each need the builder, one at a time.
        let builder = std::cell::RefCell::new(self);
        PRATT
            .map_primary(|p| builder.borrow_mut().primary(p))
            .map_prefix(|op, operand| builder.borrow().prefix(op, operand))
            .map_postfix(|operand, op| builder.borrow_mut().postfix(operand, op))
            .map_infix(|left, op, right| builder.borrow().infix(left, op, right))
            .parse(pair.into_inner())
    }

    fn primary(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::int => self.int(&pair),
            Rule::float => self.float(&pair),
            Rule::string => return self.string(pair),
            Rule::kw_true => ExprKind::Bool(true),
            Rule::kw_false => ExprKind::Bool(false),
            Rule::kw_in => ExprKind::In,
            Rule::kw_here => ExprKind::Here,
            Rule::ident => ExprKind::Name(pair.as_str().to_string()),
            Rule::list => {
                let (each, items): (Vec<_>, Vec<_>) = children(pair).partition(|p| p.as_rule() == Rule::each);
                let mut items: Vec<Expr> = items
                    .into_iter()
                    .map(|e| if e.as_rule() == Rule::label { self.value(e) } else { self.checked_expr(e) })
                    .collect();
                match (each.is_empty(), items.pop()) {
                    (false, Some(value)) => ExprKind::Comprehension {
                        value: Box::new(value),
                        each: each.into_iter().map(|each| self.each(each)).collect(),
                    },
                    (_, last) => ExprKind::List(items.into_iter().chain(last).collect()),
                }
            }
            Rule::tuple => return self.tuple(pair),
            Rule::if_expr => {
                let mut parts = children(pair)
                    .map(|e| Box::new(if e.as_rule() == Rule::expr { self.checked_expr(e) } else { self.value(e) }));
                let mut next = || parts.next().expect("if, then and else");
                ExprKind::If { condition: next(), then: next(), otherwise: next() }
            }
            Rule::function => {
                let mut parts = children(pair);
                let name = self.ident(parts.next().expect("a name"));
                ExprKind::Function(name, parts.map(|arg| self.arg(arg)).collect())
            }
            rule => unreachable!("{rule:?} as an expression"),
        };
        Expr { kind, span }
    }

    fn each(&mut self, pair: Pair<'_, Rule>) -> Each {
        let mut parts = children(pair).filter(|p| p.as_rule() != Rule::kw_in);
        let pattern = self.pattern(parts.next().expect("a pattern"));
        let items = self.checked_expr(parts.next().expect("what to walk"));
        Each { pattern, items, condition: parts.next().map(|e| self.checked_expr(e)) }
    }

    fn tuple(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let span = self.span(&pair);
        let comma = pair.clone().into_inner().any(|p| p.as_rule() == Rule::trailing_comma);
        let parts = pair.into_inner().filter(|p| p.as_rule() == Rule::expr);
        let mut parts: Vec<_> = parts.map(|e| self.checked_expr(e)).collect();
        match parts.len() {
            1 if !comma => Expr { span, ..parts.remove(0) },
            _ => Expr { kind: ExprKind::Tuple(parts), span },
        }
    }

    fn int(&mut self, pair: &Pair<'_, Rule>) -> ExprKind {
        match pair.as_str().replace('_', "").parse() {
            Ok(value) => ExprKind::Int(value),
            Err(_) => {
                let message = format!("the number {} is too large", pair.as_str());
                let diagnostic = Diagnostic::error("number-too-large", message);
                self.diagnostics.push(diagnostic.primary(self.span(pair), format!("the largest is {}", i64::MAX)));
                ExprKind::Error
            }
        }
    }

    fn float(&mut self, pair: &Pair<'_, Rule>) -> ExprKind {
        match pair.as_str().replace('_', "").parse::<f64>() {
            Ok(value) if value.is_finite() => ExprKind::Float(value),
            _ => {
                let message = format!("the number {} is too large", pair.as_str());
                let diagnostic = Diagnostic::error("number-too-large", message);
                self.diagnostics.push(diagnostic.primary(self.span(pair), "not a finite number"));
                ExprKind::Error
            }
        }
    }

    fn prefix(&self, op: Pair<'_, Rule>, operand: Expr) -> Expr {
        let span = self.span(&op).to(operand.span);
        let kind = match (op.as_rule(), operand.kind) {
            // A negative literal is a literal.
            (Rule::neg, ExprKind::Int(v)) => ExprKind::Int(-v),
            (Rule::neg, ExprKind::Float(v)) => ExprKind::Float(-v),
            (Rule::neg, kind) => ExprKind::Unary(UnaryOp::Neg, Box::new(Expr { kind, span: operand.span })),
            (_, kind) => ExprKind::Unary(UnaryOp::Not, Box::new(Expr { kind, span: operand.span })),
        };
        Expr { kind, span }
    }

    fn postfix(&mut self, operand: Expr, op: Pair<'_, Rule>) -> Expr {
        let span = operand.span.to(self.span(&op));
        let rule = op.as_rule();
        let mut parts = children(op);
        let part = parts.next().expect("a field or an index");
        let kind = match rule {
            Rule::field => ExprKind::Field(Box::new(operand), self.ident(part)),
            _ => self.index(Box::new(operand), part, parts.next().is_some()),
        };
        Expr { kind, span }
    }

    /// What stands in the brackets behind a value; `open` where the range that it begins has no end.
    fn index(&mut self, operand: Box<Expr>, part: Pair<'_, Rule>, open: bool) -> ExprKind {
        if part.as_rule() == Rule::to_index {
            let mut parts = children(part);
            let inclusive = parts.next().expect("a sign").as_rule() == Rule::range_inclusive;
            let end = Some(Box::new(self.checked_expr(parts.next().expect("an end"))));
            return ExprKind::Slice { operand, start: None, end, inclusive };
        }
        match self.checked_expr(part) {
            Expr { kind: ExprKind::Range { start, end, inclusive }, .. } if !open => {
                ExprKind::Slice { operand, start: Some(start), end: Some(end), inclusive }
            }
            start if open => ExprKind::Slice { operand, start: Some(Box::new(start)), end: None, inclusive: false },
            index => ExprKind::Index(operand, Box::new(index)),
        }
    }

    fn infix(&self, left: Expr, op: Pair<'_, Rule>, right: Expr) -> Expr {
        let span = left.span.to(right.span);
        let (left, right) = (Box::new(left), Box::new(right));
        let kind = match op.as_rule() {
            Rule::range => ExprKind::Range { start: left, end: right, inclusive: false },
            Rule::range_inclusive => ExprKind::Range { start: left, end: right, inclusive: true },
            Rule::op_not_in => {
                let kind = ExprKind::Binary(BinaryOp::In, self.span(&op), left, right);
                ExprKind::Unary(UnaryOp::Not, Box::new(Expr { kind, span }))
            }
            rule => ExprKind::Binary(binary_op(rule), self.span(&op), left, right),
        };
        Expr { kind, span }
    }
}

static PRATT: LazyLock<PrattParser<Rule>> = LazyLock::new(|| {
    let left = |rule| Op::infix(rule, Assoc::Left);
    PrattParser::new()
        .op(left(Rule::kw_or))
        .op(left(Rule::kw_and))
        .op(Op::prefix(Rule::kw_not))
        .op(left(Rule::op_eq)
            | left(Rule::op_ne)
            | left(Rule::op_lt)
            | left(Rule::op_le)
            | left(Rule::op_gt)
            | left(Rule::op_ge)
            | left(Rule::op_in)
            | left(Rule::op_not_in))
        .op(left(Rule::range) | left(Rule::range_inclusive))
        .op(left(Rule::op_add) | left(Rule::op_sub))
        .op(left(Rule::op_mul) | left(Rule::op_div) | left(Rule::op_rem))
        .op(Op::prefix(Rule::neg))
        .op(Op::infix(Rule::op_pow, Assoc::Right))
        .op(Op::postfix(Rule::field) | Op::postfix(Rule::index))
});

pub(super) fn binary_op(rule: Rule) -> BinaryOp {
    match rule {
        Rule::kw_or => BinaryOp::Or,
        Rule::kw_and => BinaryOp::And,
        Rule::op_eq => BinaryOp::Eq,
        Rule::op_ne => BinaryOp::Ne,
        Rule::op_lt => BinaryOp::Lt,
        Rule::op_le => BinaryOp::Le,
        Rule::op_gt => BinaryOp::Gt,
        Rule::op_ge => BinaryOp::Ge,
        Rule::op_in => BinaryOp::In,
        Rule::op_add => BinaryOp::Add,
        Rule::op_sub => BinaryOp::Sub,
        Rule::op_mul => BinaryOp::Mul,
        Rule::op_div => BinaryOp::Div,
        Rule::op_rem => BinaryOp::Rem,
        Rule::op_pow => BinaryOp::Pow,
        rule => unreachable!("{rule:?} as an operator"),
    }
}

/// Operators on the longest way down through an expression: what its tree's depth is bound by.
fn operators(pair: &Pair<'_, Rule>) -> usize {
    let (mut own, mut inner) = (0, 0);
    for part in pair.clone().into_inner() {
        let rule = part.as_rule();
        own += usize::from(rule.is_operator() || matches!(rule, Rule::neg | Rule::kw_not));
        inner = inner.max(operators(&part));
    }
    own + inner
}
