//! pest's pairs → the syntax tree.
//!
//! The grammar decides what pairs hold what; a pair that is not as the grammar says is a bug here,
//! not a mistake in the text. Mistakes that the grammar cannot see (a missing version, a number
//! too large, branches on one line) are reported from here.

use super::ast::*;
use super::grammar::Rule;
use super::tokens::Token;
use super::{LANGUAGE_VERSION, MAX_ARGUMENTS, MAX_MODELS};
use crate::diagnostic::{Diagnostic, SourceId, Span};
use pest::iterators::Pair;

mod expression;
mod training;

use expression::binary_op;

/// Builds trees of one source and gathers what is wrong with them.
pub(crate) struct AstBuilder<'a> {
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

impl AstBuilder<'_> {
    pub(crate) fn file(&mut self, pair: Pair<'_, Rule>) -> File {
        let mut file = File::default();
        for part in children(pair) {
            match part.as_rule() {
                Rule::version => file.version = Some(self.version(part)),
                Rule::item => file.items.push(self.item(part)),
                rule => unreachable!("{rule:?} in a file"),
            }
        }
        // What stands behind that word has been told.
        let first = self.tokens.iter().find(|t| !t.is_comment());
        if file.version.is_none() && first.is_none_or(|t| t.text(self.text) != "netc") {
            self.diagnostics.push(self.missing_version());
        }
        let is_model = |item: &&Item| matches!(item, Item::Definition(d) if d.kind == DefinitionKind::Model);
        if let Some(Item::Definition(model)) = file.items.iter().filter(is_model).nth(MAX_MODELS) {
            let message = format!("the file holds more than {MAX_MODELS} models");
            let diagnostic = Diagnostic::error("too-many-models", message).primary(model.name.span, "one too many");
            self.diagnostics.push(diagnostic.help("give a model parameters, or split the file"));
        }
        if let Some(Item::Train(train)) = file.items.iter().filter(|i| matches!(i, Item::Train(_))).nth(MAX_MODELS) {
            let message = format!("the file holds more than {MAX_MODELS} `train` blocks");
            let diagnostic = Diagnostic::error("too-many-trainings", message);
            self.diagnostics.push(diagnostic.primary(train.name.span, "one too many").help("split the file"));
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
        let part = children(pair).next().expect("an item holds one thing");
        match part.as_rule() {
            Rule::use_item => Item::Use(self.use_item(part)),
            Rule::module => Item::Definition(self.definition(DefinitionKind::Module, part)),
            Rule::model => Item::Definition(self.definition(DefinitionKind::Model, part)),
            Rule::table => Item::Table(self.table(part)),
            Rule::let_stmt => Item::Let(self.let_statement(part)),
            Rule::fn_item => Item::Function(self.function_item(part)),
            Rule::train => Item::Train(self.train(part)),
            Rule::erased_item => Item::Error,
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
        Item::Error
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

    fn definition(&mut self, kind: DefinitionKind, pair: Pair<'_, Rule>) -> Definition {
        let mut parts = children(pair).peekable();
        let name = self.ident(parts.next().expect("a name"));
        let params = match parts.next_if(|p| p.as_rule() == Rule::params) {
            Some(params) => self.no_more_than(MAX_ARGUMENTS, "parameters", params, Self::param),
            None => vec![],
        };
        let body = self.block(parts.next().expect("a block"));
        Definition { kind, name, params, body }
    }

    fn function_item(&mut self, pair: Pair<'_, Rule>) -> Function {
        let mut parts = children(pair);
        let name = self.ident(parts.next().expect("a name"));
        let params = self.no_more_than(MAX_ARGUMENTS, "parameters", parts.next().expect("parameters"), Self::param);
        Function { name, params, body: self.expr(parts.next().expect("a value")) }
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
                let mut parts = children(pair).peekable();
                let condition = parts.next_if(|p| p.as_rule() == Rule::expr).map(|e| self.expr(e));
                let body = self.block(parts.next().expect("a block"));
                StatementKind::Residual { condition, body, skip: parts.next().map(|b| self.block(b)) }
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
            Rule::expect => StatementKind::Expect(self.expect(pair)),
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

    fn expect(&mut self, pair: Pair<'_, Rule>) -> Expect {
        let mut parts = children(pair).peekable();
        let metric = self.ident(parts.next().expect("a metric"));
        let args = parts.next_if(|p| p.as_rule() == Rule::args).map_or(vec![], |args| self.args(args));
        let comparison = binary_op(parts.next().expect("a comparison").as_rule());
        let value = parts.next().expect("a value");
        if value.as_rule() != Rule::amount {
            return Expect { metric, args, comparison, value: self.expr(value), unit: None };
        }
        let mut amount = children(value);
        let value = self.expr(amount.next().expect("a number"));
        Expect { metric, args, comparison, value, unit: amount.next().map(|unit| self.ident(unit)) }
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
        let (mut args, mut shares) = (vec![], None);
        for part in parts {
            match part.as_rule() {
                Rule::args => args = self.args(part),
                _ => shares = children(part).next().map(|label| self.label(label)),
            }
        }
        Call { name, args, shares, span }
    }

    fn args(&mut self, pair: Pair<'_, Rule>) -> Vec<Arg> {
        self.no_more_than(MAX_ARGUMENTS, "arguments", pair, Self::arg)
    }

    /// The parts of a list that may have no more than `most`; the others are a mistake.
    fn no_more_than<'p, T>(
        &mut self,
        most: usize,
        what: &str,
        list: Pair<'p, Rule>,
        part: fn(&mut Self, Pair<'p, Rule>) -> T,
    ) -> Vec<T> {
        if let Some(first) = children(list.clone()).nth(most) {
            let diagnostic = Diagnostic::error("list-too-long", format!("more than {most} {what}"));
            self.diagnostics.push(diagnostic.primary(self.span(&first), "one too many"));
        }
        children(list).take(most).map(|p| part(self, p)).collect()
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

    pub(super) fn value(&mut self, pair: Pair<'_, Rule>) -> Expr {
        match pair.as_rule() {
            Rule::label | Rule::braced_label => {
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
        let mut parts = children(pair);
        let pattern = self.pattern(parts.next().expect("a pattern"));
        Let { pattern, value: self.expr(parts.next().expect("a value")) }
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
        let name = self.port_name(parts.next().expect("a name"));
        let (dtype, dims) = self.value_type(parts.next().expect("a type"));
        StatementKind::Input { name, dtype, dims }
    }

    /// `f32[N, 3]`: the word before the bracket, and the sizes.
    fn value_type(&mut self, pair: Pair<'_, Rule>) -> (Ident, Vec<Expr>) {
        let mut parts = children(pair);
        let word = self.ident(parts.next().expect("an element type"));
        (word, parts.map(|d| self.expr(d)).collect())
    }

    fn output(&mut self, pair: Pair<'_, Rule>) -> StatementKind {
        let mut parts = children(pair);
        let name = children(parts.next().expect("a name")).next().expect("a name holds one thing");
        let name = match name.as_rule() {
            Rule::string => Label { span: self.span(&name), parts: self.template(name) },
            _ => self.label(name),
        };
        let from = parts.next().map(|from| self.label(children(from).next().expect("a label")));
        StatementKind::Output { name, from }
    }

    /// What callers know an input or output by: a word, or anything at all in quotes.
    fn port_name(&mut self, pair: Pair<'_, Rule>) -> Ident {
        match pair.as_rule() {
            Rule::string => Ident { span: self.span(&pair), name: self.plain_string(pair) },
            _ => self.ident(pair),
        }
    }

    fn preprocess(&mut self, pair: Pair<'_, Rule>) -> StatementKind {
        let mut parts = children(pair).peekable();
        let input = parts.next_if(|p| matches!(p.as_rule(), Rule::ident | Rule::string)).map(|i| self.port_name(i));
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

    /// A pair's span without the blanks and remarks after its last token, which pest counts in.
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let (start, end) = (pair.as_span().start(), pair.as_span().end());
        let after = self.tokens.partition_point(|t| t.start < end);
        let last = self.tokens[..after].iter().rev().find(|t| !t.is_comment());
        let end = last.map_or(end, |t| t.end.min(end)).max(start);
        Span::new(self.source, self.base + start, self.base + end)
    }
}

/// The rows on one line: the line, or each of its tuples where it holds nothing else.
fn rows_of_line(line: Vec<Expr>, columns: usize) -> Vec<Vec<Expr>> {
    let row = |e: &Expr| match &e.kind {
        ExprKind::Tuple(parts) if parts.len() == columns || line.len() == 1 => Some(parts.clone()),
        _ => None,
    };
    line.iter().map(row).collect::<Option<Vec<_>>>().unwrap_or_else(|| vec![line.clone()])
}
