//! What a person should know of a run before it begins: where it differs from what they may expect.

use super::{Init, Settings, lora};
use crate::checkpoint::expert_of;
use crate::model::{Decoder, Linear};
use crate::quant::Quantized;
use serde_json::Value;

/// Sentences about the model and the settings.
pub fn of(decoder: &Decoder, settings: &Settings, config: Option<&Value>) -> Vec<String> {
    let all =
        [scales(decoder), dropout(config), init(decoder, settings), lora::clipped(decoder, settings), experts(decoder)];
    all.into_iter().flatten().collect()
}

/// Rows that are no whole blocks.
fn scales(decoder: &Decoder) -> Option<String> {
    let differ = |(inner, scheme): (usize, crate::quant::Scheme)| Quantized::readings_differ(inner, scheme.blocksize);
    let odd = decoder.linears().filter_map(|linear| {
        let scheme = linear.weight.read_as_bitsandbytes()?;
        differ((linear.shape[1], scheme)).then_some((linear, scheme.blocksize))
    });
    let odd: Vec<_> = odd.collect();
    let (first, block) = odd.first()?;
    Some(format!(
        "{} of the weights in 4 bits have rows that are no whole blocks of {block} (first {}, rows of {}): bitsandbytes' AVX-512 kernel \
         reads them with the scales of neighbouring blocks, and so does this run, to be what it is there; an error of the base that training \
         works around",
        odd.len(),
        first.module,
        first.shape[1]
    ))
}

/// Experts in 4 bits.
fn experts(decoder: &Decoder) -> Option<String> {
    let four_bit =
        |linear: &&Linear| expert_of(&linear.module).is_some() && linear.weight.read_as_bitsandbytes().is_some();
    let count = decoder.linears().filter(four_bit).count();
    (count > 0).then(|| {
        format!(
            "{count} matrices of experts are in 4 bits here, each by itself: transformers keeps a block's experts as parameters, which \
             bitsandbytes leaves as they are, so that PEFT's losses differ a little and its memory a lot"
        )
    })
}

/// Dropout that a config asks for.
fn dropout(config: Option<&Value>) -> Option<String> {
    const KEYS: [&str; 6] =
        ["attn_pdrop", "resid_pdrop", "embd_pdrop", "attention_dropout", "hidden_dropout", "hidden_dropout_prob"];
    let config = config?;
    let asked =
        |key: &&str| config.get(*key).and_then(Value::as_f64).filter(|p| *p > 0.0).map(|p| format!("{key} {p}"));
    let asked: Vec<String> = KEYS.iter().filter_map(asked).collect();
    (!asked.is_empty()).then(|| {
        format!(
            "config.json asks for dropout inside the model ({}): it is not applied, neither here nor in evaluation; --dropout, of the \
             adapter's input, is",
            asked.join(", ")
        )
    })
}

/// Which base the adapter belongs to.
fn init(decoder: &Decoder, settings: &Settings) -> Option<String> {
    let four_bit = settings.scheme().is_some();
    match settings.init {
        Init::Default => None,
        Init::Pissa if four_bit => Some(
            "pissa: what is frozen is the rest of the base, in 4 bits; the adapter is written as the difference from its beginning, of \
             rank 2r, for the base as it is on the disk, and gives there what it gave here but for the rounding to 4 bits"
                .to_owned(),
        ),
        Init::Pissa => Some(
            "pissa: what is frozen is the rest of the base; the adapter is written as the difference from its beginning, of rank 2r, for the \
             base as it is on the disk"
                .to_owned(),
        ),
        Init::Loftq => {
            let scaling = decoder.linears().find_map(|linear| linear.pair()).map_or(1.0, |lora| lora.scaling);
            let scaled = if scaling == 1.0 {
                String::new()
            } else {
                format!("; the pairs repair the rounding at a scaling of 1, as PEFT makes them, and here it is {scaling}: alpha = rank is meant")
            };
            let base = if settings.mutates_base() {
                "the adapter is written as the difference from its beginning, of rank 2r, for the base as it is on the disk"
            } else {
                "the adapter belongs to the base in the same 4 bits; beside the base as it is on the disk it repairs what is not broken"
            };
            Some(format!("loftq: {base}{scaled}"))
        }
    }
}
