//! The tokenizer: byte-level BPE, as GPT-2's, trained on documents of the world.
//!
//! Every text begins as if a space stood before it, so that a name is the same token at the beginning of a document as
//! within: a model of this size cannot copy what is written in two ways.

use super::world;
use crate::error::{Error, Result};
use crate::progress::Progress;
use serde_json::json;
use std::path::Path;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::train::store::write_whole;

/// Ends a document; also what a model begins after.
pub const END: &str = "<|end|>";
/// Fills a batch.
pub const PAD: &str = "<|pad|>";

/// Trains on the documents of these seeds, up to `vocab` tokens.
///
/// # Errors
/// Cancellation, and what the trainer says.
pub fn train(seeds: std::ops::Range<u64>, vocab: usize, progress: &dyn Progress) -> Result<Tokenizer> {
    let total = seeds.end - seeds.start;
    let mut documents = Vec::new();
    for (at, seed) in seeds.enumerate() {
        if at % 256 == 0 {
            progress.step(at as u64, total)?;
        }
        documents.push(world::document(seed));
    }
    let byte_level = ByteLevel::new(true, true, true);
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
    let special = [END, PAD].map(|token| AddedToken::from(token, true));
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab)
        .show_progress(false)
        .special_tokens(special.to_vec())
        // Every byte has a token: any text can be written, if not always briefly.
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let failed = |error: tokenizers::Error| Error::failure(format!("cannot train the tokenizer: {error}"));
    tokenizer.train(&mut TrainerWrapper::from(trainer), documents.into_iter()).map_err(failed)?;
    let found = tokenizer.get_vocab_size(true);
    if found != vocab {
        return Err(Error::failure(format!("the tokenizer has {found} tokens, expected {vocab}: too little text")));
    }
    Ok(tokenizer)
}

/// Writes `tokenizer.json` and `tokenizer_config.json`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(tokenizer: &Tokenizer, folder: &Path) -> Result<()> {
    let text = tokenizer.to_string(false).map_err(|error| Error::failure(format!("the tokenizer: {error}")))?;
    write_whole(&folder.join("tokenizer.json"), text.as_bytes())?;
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END, "pad_token": PAD,
        "clean_up_tokenization_spaces": false,
    });
    write_whole(&folder.join("tokenizer_config.json"), format!("{config:#}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back() {
        let tokenizer = train(0..300, 600, &()).unwrap();
        let again = train(0..300, 600, &()).unwrap();
        assert_eq!(tokenizer.to_string(false).unwrap(), again.to_string(false).unwrap());
        let texts = [world::document(99_999), "Grüße, 東京 – 12,5 %!\n\tif x { y }".to_owned()];
        for text in &texts {
            let ids = tokenizer.encode(text.as_str(), true).unwrap();
            assert_eq!(tokenizer.decode(ids.get_ids(), true).unwrap(), format!(" {text}"));
        }
        let ids = |text: &str| tokenizer.encode(text, true).unwrap().get_ids().to_vec();
        assert!(ids("and Ada").ends_with(&ids("Ada")), "a name is the same everywhere");
        assert_eq!(tokenizer.token_to_id(END), Some(0));
    }
}
