//! The parser that pest generates, and the words for its rules in messages.

use pest_derive::Parser;

#[derive(Parser)]
#[grammar = "grammar/netc.pest"]
pub(crate) struct NetcParser;

impl Rule {
    /// Pairs that only mark a word or a sign; the tree builder skips them.
    pub(crate) fn is_mark(self) -> bool {
        use Rule::*;
        matches!(
            self,
            kw_augment
                | kw_aux
                | kw_branches
                | kw_data
                | kw_else
                | kw_expect
                | kw_fn
                | kw_for
                | kw_from
                | kw_if
                | kw_init
                | kw_input
                | kw_labels
                | kw_let
                | kw_lr_scale
                | kw_model
                | kw_module
                | kw_netc
                | kw_noise
                | kw_output
                | kw_preprocess
                | kw_require
                | kw_residual
                | kw_shares
                | kw_skip
                | kw_step
                | kw_table
                | kw_then
                | kw_train
                | kw_use
                | kw_when
                | colon
                | comma
                | eq
                | open_brace
                | close_brace
                | open_bracket
                | close_bracket
                | open_paren
                | close_paren
                | doc
                | EOI
        )
    }

    /// `in` is a mark in `for x in …` and a value elsewhere, so that the builder looks at it itself.
    pub(crate) fn is_operator(self) -> bool {
        use Rule::*;
        matches!(
            self,
            kw_or
                | kw_and
                | op_eq
                | op_ne
                | op_le
                | op_ge
                | op_lt
                | op_gt
                | op_in
                | op_not_in
                | range_inclusive
                | range
                | op_add
                | op_sub
                | op_mul
                | op_div
                | op_rem
                | op_pow
                | field
                | index
        )
    }

    /// What a reader calls the rule, in "expected …". `None` hides it.
    pub(crate) fn description(self) -> Option<&'static str> {
        use Rule::*;
        Some(match self {
            open_brace | block | train_block => "`{`",
            close_brace => "`}`",
            open_bracket => "`[`",
            close_bracket => "`]`",
            open_paren | args | params | columns | train_models => "`(`",
            close_paren => "`)`",
            comma | trailing_comma => "`,`",
            colon => "`:`",
            eq => "`=`",
            kw_in => "`in`",
            kw_then => "`then`",
            kw_else => "`else`",
            kw_shares | shares => "`shares`",
            kw_skip => "`skip`",
            expr | cell => "an expression",
            ident | word | pattern | param => "a name",
            label | label_part | label_text => "a label",
            string | output_name => "a name",
            std_path => "`std.…`",
            int | float => "a number",
            version_number => "a version number",
            shape => "a type such as f32[N, 3, 224, 224]",
            setting => "a preprocessing step",
            augmentation => "an augmentation",
            clause_value => "a value",
            arg | named_arg => "an argument",
            core | call | labelled | statement | train_stmt => "a statement",
            _ => return None,
        })
    }
}
