//! `train` blocks: pairs → tree.

use pest::iterators::Pair;

use super::{AstBuilder, children};
use crate::syntax::ast::*;
use crate::syntax::grammar::Rule;

impl AstBuilder<'_> {
    pub(super) fn train(&mut self, pair: Pair<'_, Rule>) -> Train {
        let mut parts = children(pair).peekable();
        let name = self.ident(parts.next().expect("a name"));
        let models = parts.next_if(|p| p.as_rule() == Rule::train_models);
        let models = models.map_or(vec![], |models| children(models).map(|m| self.ident(m)).collect());
        Train { name, models, body: self.train_block(parts.next().expect("a block")) }
    }

    fn train_block(&mut self, pair: Pair<'_, Rule>) -> TrainBlock {
        TrainBlock { statements: children(pair).map(|s| self.train_statement(s)).collect() }
    }

    fn train_statement(&mut self, pair: Pair<'_, Rule>) -> TrainStatement {
        let part = children(pair).next().expect("a statement holds one thing");
        TrainStatement { span: self.span(&part), kind: self.train_statement_kind(part) }
    }

    fn train_statement_kind(&mut self, pair: Pair<'_, Rule>) -> TrainStatementKind {
        match pair.as_rule() {
            Rule::clause => {
                let mut parts = children(pair);
                let name = self.ident(parts.next().expect("a name"));
                let values = parts.map(|v| self.value(v)).collect();
                TrainStatementKind::Clause { name, values }
            }
            Rule::init => {
                let mut parts = children(pair).peekable();
                let kind = parts.next_if(|p| p.as_rule() == Rule::init_kind);
                let kind = kind.map(|kind| self.label(children(kind).next().expect("a label")));
                TrainStatementKind::Init { kind, value: self.value(parts.next().expect("a value")) }
            }
            Rule::lr_scale => {
                let (labels, values): (Vec<_>, Vec<_>) = children(pair).partition(|p| p.as_rule() == Rule::label);
                let by = self.expr(values.into_iter().next().expect("a value"));
                TrainStatementKind::LrScale { of: labels.into_iter().map(|l| self.label(l)).collect(), by }
            }
            Rule::augment => {
                let mut parts = children(pair).peekable();
                let input = parts.next_if(|p| p.as_rule() == Rule::ident).map(|i| self.ident(i));
                TrainStatementKind::Augment { input, changes: parts.map(|c| self.change(c)).collect() }
            }
            Rule::source => {
                let kind = match pair.clone().into_inner().next().expect("a word").as_rule() {
                    Rule::kw_data => SourceKind::Data,
                    Rule::kw_labels => SourceKind::Labels,
                    _ => SourceKind::Noise,
                };
                let mut parts = children(pair);
                let name = self.ident(parts.next().expect("a name"));
                let (of, dims) = self.value_type(parts.next().expect("a type"));
                TrainStatementKind::Source { kind, name, of, dims }
            }
            Rule::step => {
                let (mut models, mut args, mut body) = (vec![], vec![], None);
                for part in children(pair) {
                    match part.as_rule() {
                        Rule::train_block => body = Some(self.train_block(part)),
                        Rule::args => args = self.args(part),
                        _ => models.push(self.ident(part)),
                    }
                }
                TrainStatementKind::Step { models, args, body: body.expect("a block") }
            }
            Rule::let_stmt => TrainStatementKind::Let(self.let_statement(pair)),
            Rule::expect => TrainStatementKind::Expect(self.expect(pair)),
            Rule::erased_train => {
                let block = children(pair).find(|p| p.as_rule() == Rule::train_block);
                TrainStatementKind::Error(block.map(|b| self.train_block(b)))
            }
            rule => unreachable!("{rule:?} in a train block"),
        }
    }

    /// An augmentation. A number without parentheses is its first argument.
    fn change(&mut self, pair: Pair<'_, Rule>) -> Change {
        let mut parts = children(pair);
        let name = self.ident(parts.next().expect("a name"));
        let args = match parts.next() {
            None => vec![],
            Some(args) if args.as_rule() == Rule::args => self.args(args),
            Some(value) => {
                let value = self.expr(value);
                vec![Arg { name: None, span: value.span, value }]
            }
        };
        Change { name, args }
    }
}
