//! Values that have names, as arguments: one list gives the parser, its errors and the help.

use crate::checkpoint::Dtype;
use crate::train::{Choice, Named};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// The names of these choices.
pub(super) fn values(choices: Vec<Choice>) -> PossibleValuesParser {
    choices.into_iter().map(|choice| PossibleValue::new(choice.name).help(choice.about)).into()
}

/// One of these values of an enum, by its name.
pub(super) fn one_of<T: Named + Send + Sync>(all: &'static [T]) -> impl TypedValueParser<Value = T> {
    let named = |name: String| T::named(&name).ok_or("expected one of the names");
    values(all.iter().map(|value| value.choice()).collect()).try_map(named)
}

/// Types that weights and factors can be written in.
const WRITTEN: [(&str, Dtype); 3] = [("f32", Dtype::F32), ("f16", Dtype::F16), ("bf16", Dtype::BF16)];

/// One of the types that weights and factors can be written in.
pub(super) fn written() -> impl TypedValueParser<Value = Dtype> {
    PossibleValuesParser::new(WRITTEN.map(|(name, _)| name)).try_map(|name| {
        let found = WRITTEN.iter().find(|(other, _)| *other == name);
        found.map(|(_, dtype)| *dtype).ok_or("expected f32, f16 or bf16")
    })
}
