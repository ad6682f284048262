//! pest's pairs → the syntax tree.
//!
//! The grammar decides what pairs hold what; a pair that is not as the grammar says is a bug here,
//! not a mistake in the text. Mistakes that the grammar cannot see (a missing version, a number
//! too large, branches on one line) are reported from here.

use super::ast::*;
use super::grammar::{NetcParser, Rule};
use super::tokens::{self, Token};
use super::{LANGUAGE_VERSION, MAX_NESTING, MAX_OPERATORS};
use crate::diagnostic::{Diagnostic, SourceId, Span};
use pest::Parser;
use pest::iterators::Pair;
use pest::pratt_parser::{Assoc, Op, PrattParser};
use std::sync::LazyLock;

/// Builds trees of one source and gathers what is wrong with them.
pub struct Builder<'a> {
    pub source: SourceId,
    /// Where `text` begins in the source: 0, or where the inside of a string's braces begins.
    pub base: usize,
    /// The text as written: what recovery repaired has the same length.
    pub text: &'a str,
    pub tokens: &'a [Token],
    pub diagnostics: Vec<Diagnostic>,
}

/// The children of a pair that carry meaning.
fn children(pair: Pair<'_, Rule>) -> impl Iterator<Item = Pair<'_, Rule>> {
    pair.into_inner().filter(|p| !p.as_rule().is_mark())
}

impl Builder<'_> {
    pub fn file(&mut self, pair: Pair<'_, Rule>) -> File {
        let mut file = File::default();
        for part in children(pair) {
            match part.as_rule() {
                Rule::version => file.version = Some(self.version(part)),
                Rule::item => file.items.push(self.item(part)),
                rule => unreachable!("{rule:?} in a file"),
            }
        }
        if file.version.is_none() {
            self.diagnostics.push(self.missing_version());
        }
        file
    }

    fn missing_version(&self) -> Diagnostic {
        let first = self.tokens.iter().find(|t| !t.is_comment());
        let span = first.map_or(Span::new(self.source, 0, 0), |t| Span::new(self.source, t.start, t.end));
        Diagnostic::error("missing-version", "the file does not begin with the language's version")
            .primary(span, "expected `netc 1` before this")
            .help("make `netc 1` the first line")
    }

    fn version(&mut self, pair: Pair<'_, Rule>) -> (u64, Span) {
        let number = children(pair).next().expect("version_number");
        let span = self.span(&number);
        let version = number.as_str().parse().unwrap_or(u64::MAX);
        if version != LANGUAGE_VERSION {
            let message =
                format!("this netc knows version {LANGUAGE_VERSION} of the language, not {}", number.as_str());
            let diagnostic = Diagnostic::error("unknown-version", message).primary(span, "unknown version");
            self.diagnostics.push(diagnostic.help(format!("write `netc {LANGUAGE_VERSION}`")));
        }
        (version, span)
    }

    fn item(&mut self, pair: Pair<'_, Rule>) -> Item {
        let docs = docs(&pair);
        let part = children(pair).next().expect("an item holds one thing");
        match part.as_rule() {
            Rule::use_item => Item::Use(self.use_item(part)),
            Rule::module => Item::Definition(self.definition(DefinitionKind::Module, docs, part)),
            Rule::model => Item::Definition(self.definition(DefinitionKind::Model, docs, part)),
            Rule::table => Item::Table(self.table(part)),
            Rule::let_stmt => Item::Let(self.let_statement(part)),
            Rule::erased_item => Item::Error(self.span(&part)),
            Rule::stray_block => self.stray_block(part),
            rule => unreachable!("{rule:?} as an item"),
        }
    }

    fn stray_block(&mut self, pair: Pair<'_, Rule>) -> Item {
        let span = self.span(&pair);
        let open = Span { end: span.start + 1, ..span };
        self.diagnostics.push(
            Diagnostic::error("block-without-header", "a block outside of every module and model")
                .primary(open, "what does this block belong to?")
                .help("write `module name(parameters)` or `model name` before it"),
        );
        Item::Error(span)
    }

    fn use_item(&mut self, pair: Pair<'_, Rule>) -> Use {
        let span = self.span(&pair);
        let path = children(pair).next().expect("a path");
        let path = match path.as_rule() {
            Rule::std_path => UsePath::Std(path.as_str().trim_start_matches("std.").to_string()),
            _ => UsePath::File(self.plain_string(path)),
        };
        Use { path, span }
    }

    /// The text of a string that may hold no templates.
    fn plain_string(&mut self, pair: Pair<'_, Rule>) -> String {
        let span = self.span(&pair);
        match self.template(pair).as_slice() {
            [] => String::new(),
            [TemplatePart::Text(text)] => text.clone(),
            _ => {
                let message = "a path cannot hold `{expressions}`: files are read before anything is evaluated";
                self.diagnostics
                    .push(Diagnostic::error("template-in-path", message).primary(span, "not a plain string"));
                String::new()
            }
        }
    }

    fn definition(&mut self, kind: DefinitionKind, docs: Vec<String>, pair: Pair<'_, Rule>) -> Definition {
        let span = self.span(&pair);
        let mut parts = children(pair).peekable();
        let name = self.ident(parts.next().expect("a name"));
        let params = match parts.next_if(|p| p.as_rule() == Rule::params) {
            Some(params) => children(params).map(|p| self.param(p)).collect(),
            None => vec![],
        };
        let body = self.block(parts.next().expect("a block"));
        Definition { kind, docs, name, params, body, span }
    }

    fn param(&mut self, pair: Pair<'_, Rule>) -> Param {
        let mut parts = children(pair);
        let name = self.ident(parts.next().expect("a name"));
        Param { name, default: parts.next().map(|e| self.expr(e)) }
    }

    fn block(&mut self, pair: Pair<'_, Rule>) -> Block {
        let span = self.span(&pair);
        let mut statements: Vec<Statement> = vec![];
        for pair in children(pair) {
            let mut statement = self.statement(pair);
            statement.new_line = statements.last().is_none_or(|s| self.breaks_line(s.span.end, statement.span.start));
            statements.push(statement);
        }
        Block { statements, span }
    }

    fn statement(&mut self, pair: Pair<'_, Rule>) -> Statement {
        let part = children(pair).next().expect("a statement holds one thing");
        let span = self.span(&part);
        if part.as_rule() != Rule::labelled {
            return Statement { label: None, kind: self.statement_kind(part), span, new_line: true };
        }
        let mut parts = children(part);
        let label = self.label(parts.next().expect("a label"));
        let kind = self.statement_kind(parts.next().expect("what is labelled"));
        Statement { label: Some(label), kind, span, new_line: true }
    }

    fn statement_kind(&mut self, pair: Pair<'_, Rule>) -> StatementKind {
        match pair.as_rule() {
            Rule::call => StatementKind::Call(self.call(pair)),
            Rule::block => StatementKind::Block(self.block(pair)),
            Rule::branches => StatementKind::Branches(self.branches(pair)),
            Rule::residual => {
                let mut blocks = children(pair);
                let body = self.block(blocks.next().expect("a block"));
                StatementKind::Residual { body, skip: blocks.next().map(|b| self.block(b)) }
            }
            Rule::aux => StatementKind::Aux(self.aux(pair)),
            Rule::for_stmt => {
                let mut parts = children(pair).filter(|p| p.as_rule() != Rule::kw_in);
                let pattern = self.pattern(parts.next().expect("a pattern"));
                let items = self.expr(parts.next().expect("what to walk"));
                StatementKind::For { pattern, items, body: self.block(parts.next().expect("a block")) }
            }
            Rule::if_stmt => self.if_statement(pair),
            Rule::when_stmt => {
                let mut parts = children(pair);
                let phase = self.ident(parts.next().expect("a phase"));
                StatementKind::When { phase, body: self.block(parts.next().expect("a block")) }
            }
            Rule::let_stmt => StatementKind::Let(self.let_statement(pair)),
            Rule::table => StatementKind::Table(self.table(pair)),
            Rule::require => {
                let mut parts = children(pair);
                let condition = self.expr(parts.next().expect("a condition"));
                StatementKind::Require { condition, message: parts.next().map(|m| self.string(m)) }
            }
            Rule::expect => {
                let mut parts = children(pair);
                let metric = self.ident(parts.next().expect("a metric"));
                let comparison = binary_op(parts.next().expect("a comparison").as_rule());
                StatementKind::Expect { metric, comparison, value: self.expr(parts.next().expect("a value")) }
            }
            Rule::input => self.input(pair),
            Rule::output => self.output(pair),
            Rule::preprocess => self.preprocess(pair),
            Rule::labels => StatementKind::ClassLabels(self.expr(children(pair).next().expect("the labels"))),
            Rule::from_stmt => StatementKind::From(self.value(children(pair).next().expect("a label"))),
            Rule::erased_stmt => {
                let block = children(pair).find(|p| p.as_rule() == Rule::block);
                StatementKind::Error(block.map(|b| self.block(b)))
            }
            rule => unreachable!("{rule:?} as a statement"),
        }
    }

    fn if_statement(&mut self, pair: Pair<'_, Rule>) -> StatementKind {
        let (mut arms, mut otherwise, mut condition) = (vec![], None, None);
        for part in children(pair) {
            match part.as_rule() {
                Rule::expr => condition = Some(self.expr(part)),
                _ => match condition.take() {
                    Some(condition) => arms.push((condition, self.block(part))),
                    None => otherwise = Some(self.block(part)),
                },
            }
        }
        StatementKind::If { arms, otherwise }
    }

    fn call(&mut self, pair: Pair<'_, Rule>) -> Call {
        let span = self.span(&pair);
        let mut parts = children(pair);
        let name = self.ident(parts.next().expect("a name"));
        Call { name, args: parts.next().map_or(vec![], |args| self.args(args)), span }
    }

    fn args(&mut self, pair: Pair<'_, Rule>) -> Vec<Arg> {
        children(pair).map(|arg| self.arg(arg)).collect()
    }

    fn arg(&mut self, pair: Pair<'_, Rule>) -> Arg {
        let span = self.span(&pair);
        let part = children(pair).next().expect("an argument holds one thing");
        if part.as_rule() != Rule::named_arg {
            return Arg { name: None, value: self.value(part), span };
        }
        let mut parts = children(part);
        let name = self.ident(parts.next().expect("a name"));
        Arg { name: Some(name), value: self.value(parts.next().expect("a value")), span }
    }

    fn value(&mut self, pair: Pair<'_, Rule>) -> Expr {
        match pair.as_rule() {
            Rule::label => {
                let label = self.label(pair);
                Expr { span: label.span, kind: ExprKind::Label(label) }
            }
            _ => self.expr(pair),
        }
    }

    fn branches(&mut self, pair: Pair<'_, Rule>) -> Branches {
        let span = self.span(&pair);
        let mut parts = children(pair);
        let join = self.ident(parts.next().expect("how to join"));
        let body = self.block(parts.next().expect("a block"));
        if let [_, second, ..] = body.statements.as_slice()
            && lines(&body.statements).count() == 1
        {
            self.diagnostics.push(
                Diagnostic::error(
                    "branches-on-one-line",
                    "all branches stand on one line, which makes them one branch",
                )
                .primary(second.span, "part of the branch before it")
                .help("write one branch a line"),
            );
        }
        Branches { join, body, span }
    }

    fn breaks_line(&self, from: u32, to: u32) -> bool {
        self.text[from as usize..to as usize].contains('\n')
    }

    fn aux(&mut self, pair: Pair<'_, Rule>) -> Aux {
        let mut parts = children(pair).peekable();
        let label = parts.next_if(|p| p.as_rule() == Rule::label).map(|l| self.label(l));
        let args = parts.next_if(|p| p.as_rule() == Rule::args).map_or(vec![], |args| self.args(args));
        Aux { label, args, body: self.block(parts.next().expect("a block")) }
    }

    fn let_statement(&mut self, pair: Pair<'_, Rule>) -> Let {
        let span = self.span(&pair);
        let mut parts = children(pair);
        let pattern = self.pattern(parts.next().expect("a pattern"));
        Let { pattern, value: self.expr(parts.next().expect("a value")), span }
    }

    fn pattern(&mut self, pair: Pair<'_, Rule>) -> Pattern {
        let span = self.span(&pair);
        let mut parts = children(pair).peekable();
        match parts.next_if(|p| p.as_rule() == Rule::ident) {
            Some(name) => Pattern::Name(self.ident(name)),
            None => Pattern::Tuple(parts.map(|p| self.pattern(p)).collect(), span),
        }
    }

    fn table(&mut self, pair: Pair<'_, Rule>) -> Table {
        let span = self.span(&pair);
        let mut parts = children(pair);
        let name = self.ident(parts.next().expect("a name"));
        let columns = children(parts.next().expect("columns")).map(|c| self.ident(c)).collect();
        let mut rows: Vec<Vec<Expr>> = vec![];
        let mut end = span.start;
        for cell in parts {
            let value = self.expr(children(cell).next().expect("a value"));
            let value_end = value.span.end;
            match rows.last_mut() {
                Some(row) if !self.breaks_line(end, value.span.start) => row.push(value),
                _ => rows.push(vec![value]),
            }
            end = value_end;
        }
        let columns: Vec<Ident> = columns;
        let rows = rows.into_iter().flat_map(|line| rows_of_line(line, columns.len())).collect();
        Table { name, columns, rows, span }
    }

    fn input(&mut self, pair: Pair<'_, Rule>) -> StatementKind {
        let mut parts = children(pair);
        let name = self.ident(parts.next().expect("a name"));
        let mut shape = children(parts.next().expect("a type"));
        let dtype = self.ident(shape.next().expect("an element type"));
        StatementKind::Input { name, dtype, dims: shape.map(|d| self.expr(d)).collect() }
    }

    fn output(&mut self, pair: Pair<'_, Rule>) -> StatementKind {
        let mut parts = children(pair);
        let name = parts.next().expect("a name");
        let name = match name.as_rule() {
            Rule::string => Ident { span: self.span(&name), name: self.plain_string(name) },
            _ => self.ident(name),
        };
        let from = parts.next().map(|from| self.label(children(from).next().expect("a label")));
        StatementKind::Output { name, from }
    }

    fn preprocess(&mut self, pair: Pair<'_, Rule>) -> StatementKind {
        let mut parts = children(pair).peekable();
        let input = parts.next_if(|p| p.as_rule() == Rule::ident).map(|i| self.ident(i));
        let settings = parts.map(|setting| {
            let mut parts = children(setting);
            let name = self.ident(parts.next().expect("a name"));
            Setting { name, value: self.expr(parts.next().expect("a value")) }
        });
        StatementKind::Preprocess { input, settings: settings.collect() }
    }

    fn ident(&self, pair: Pair<'_, Rule>) -> Ident {
        Ident { name: pair.as_str().to_string(), span: self.span(&pair) }
    }

    fn label(&mut self, pair: Pair<'_, Rule>) -> Label {
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

    fn string(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let span = self.span(&pair);
        Expr { kind: ExprKind::Template(self.template(pair)), span }
    }

    /// Resolves the escapes of a string and parses what stands in its braces.
    fn template(&mut self, pair: Pair<'_, Rule>) -> Vec<TemplatePart> {
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
        let mut inner = Builder { base: start, text, tokens: &tokens, diagnostics: vec![], ..*self };
        let expr = inner.expr(expr);
        self.diagnostics.append(&mut inner.diagnostics);
        expr
    }

    pub fn expr(&mut self, pair: Pair<'_, Rule>) -> Expr {
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
            Rule::ident => ExprKind::Name(pair.as_str().to_string()),
            Rule::list => ExprKind::List(children(pair).map(|e| self.checked_expr(e)).collect()),
            Rule::tuple => return self.tuple(pair),
            Rule::if_expr => {
                let mut parts = children(pair).map(|e| Box::new(self.checked_expr(e)));
                let mut next = || parts.next().expect("if, then and else");
                ExprKind::If { condition: next(), then: next(), otherwise: next() }
            }
            Rule::function => {
                let mut parts = children(pair);
                let name = self.ident(parts.next().expect("a name"));
                ExprKind::Function(name, parts.map(|e| self.checked_expr(e)).collect())
            }
            rule => unreachable!("{rule:?} as an expression"),
        };
        Expr { kind, span }
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
        let part = children(op).next().expect("a field or an index");
        let kind = match rule {
            Rule::field => ExprKind::Field(Box::new(operand), self.ident(part)),
            _ => ExprKind::Index(Box::new(operand), Box::new(self.checked_expr(part))),
        };
        Expr { kind, span }
    }

    fn infix(&self, left: Expr, op: Pair<'_, Rule>, right: Expr) -> Expr {
        let span = left.span.to(right.span);
        let (left, right) = (Box::new(left), Box::new(right));
        let kind = match op.as_rule() {
            Rule::range => ExprKind::Range { start: left, end: right, inclusive: false },
            Rule::range_inclusive => ExprKind::Range { start: left, end: right, inclusive: true },
            rule => ExprKind::Binary(binary_op(rule), self.span(&op), left, right),
        };
        Expr { kind, span }
    }

    /// A pair's span without the blanks and remarks after its last token, which pest counts in.
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let (start, end) = (pair.as_span().start(), pair.as_span().end());
        let after = self.tokens.partition_point(|t| t.start < end);
        let last = self.tokens[..after].iter().rev().find(|t| !t.is_comment());
        let end = last.map_or(end, |t| t.end.min(end)).max(start);
        Span::new(self.source, self.base + start, self.base + end)
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
            | left(Rule::op_ge))
        .op(left(Rule::range) | left(Rule::range_inclusive))
        .op(left(Rule::op_add) | left(Rule::op_sub))
        .op(left(Rule::op_mul) | left(Rule::op_div) | left(Rule::op_rem))
        .op(Op::prefix(Rule::neg))
        .op(Op::infix(Rule::op_pow, Assoc::Right))
        .op(Op::postfix(Rule::field) | Op::postfix(Rule::index))
});

fn binary_op(rule: Rule) -> BinaryOp {
    match rule {
        Rule::kw_or => BinaryOp::Or,
        Rule::kw_and => BinaryOp::And,
        Rule::op_eq => BinaryOp::Eq,
        Rule::op_ne => BinaryOp::Ne,
        Rule::op_lt => BinaryOp::Lt,
        Rule::op_le => BinaryOp::Le,
        Rule::op_gt => BinaryOp::Gt,
        Rule::op_ge => BinaryOp::Ge,
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

/// The text of the `///` lines in an item.
fn docs(item: &Pair<'_, Rule>) -> Vec<String> {
    let lines = item.clone().into_inner().filter(|p| p.as_rule() == Rule::doc);
    lines.map(|p| p.as_str().trim_start_matches('/').trim().to_string()).collect()
}

/// The rows on one line: the line, or each of its tuples where it holds nothing else.
fn rows_of_line(line: Vec<Expr>, columns: usize) -> Vec<Vec<Expr>> {
    let row = |e: &Expr| match &e.kind {
        ExprKind::Tuple(parts) if parts.len() == columns || line.len() == 1 => Some(parts.clone()),
        _ => None,
    };
    line.iter().map(row).collect::<Option<Vec<_>>>().unwrap_or_else(|| vec![line.clone()])
}
