//! How byte-level BPE splits a text first, by the names that llama.cpp has for it (`tokenizer.ggml.pre`).
//!
//! A text is cut by each expression in turn: what it matches and what lies between the matches are pieces, which the next one
//! cuts further. Merges never cross a cut. (llama.cpp, `llm_tokenizer_bpe`, with the expressions of the models' own
//! `tokenizer.json` where llama.cpp has rewritten them for its matcher; a test in `train/data` holds both together.)

use serde_json::{Value, json};

/// One way to split a text.
pub(super) struct Split {
    /// Its names in llama.cpp; the first is written.
    pub names: &'static [&'static str],
    /// Its expressions, in turn.
    pub expressions: &'static [&'static str],
    /// A piece that is a token is not merged from smaller ones.
    pub ignore_merges: bool,
    /// Whether a text begins with the token for that where the file does not say.
    pub bos: bool,
}

macro_rules! words {
    ($digits:literal) => {
        concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

/// Words by their capitals; what may follow one, what is a number, what may end a run of signs.
macro_rules! capitals {
    ($suffix:literal, $digits:literal, $signs:literal) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $suffix,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $suffix,
            "|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n",
            $signs,
            r"]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";
const BLOOM: &str = " ?[^(\\s|.,!?…。，、।۔،)]+";
const HAN: &str = "[一-龥ࠀ-一가-퟿]+";

/// All that are known here.
pub(super) const SPLITS: &[Split] = &[
    Split {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        expressions: &[words!(r"\p{N}{1,3}")],
        ignore_merges: true,
        bos: true,
    },
    plain(&["smaug-bpe", "dbrx", "glm4", "chatglm-bpe"], &[words!(r"\p{N}{1,3}")]),
    plain(
        &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"],
        &[words!(r"\p{N}")],
    ),
    plain(
        &["qwen35"],
        &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
    ),
    plain(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "exaone4",
            "trillion",
            "granite-docling",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
        ],
        &[GPT2],
    ),
    plain(&["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"], &[DIGIT, GPT2]),
    plain(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        &[
            r"\p{N}{1,3}",
            "[一-龥぀-ゟ゠-ヿ]+",
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
        ],
    ),
    plain(
        &["deepseek-llm"],
        &[
            r"[\r\n]",
            "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u{1F7D}ᾀ-ᾴᾶ-ᾼ\u{1FBE}ῂ-ῄῆ-ῌῐ-\u{1FD3}ῖ-\u{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u{2126}ℨ\u{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
            "\\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            HAN,
            r"\p{N}+",
        ],
    ),
    plain(&["deepseek-coder"], &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN, DIGIT]),
    plain(&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
    plain(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
    plain(&["bloom", "poro-chat", "gpt3-finnish"], &[BLOOM]),
    plain(&["viking"], &[BLOOM, DIGIT]),
    Split { names: &["tekken"], expressions: &[capitals!("", r"\p{N}", "/")], ignore_merges: true, bos: true },
    plain(
        &["gpt-4o", "llama4", "kanana2", "minimax-m2"],
        &[capitals!("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}", "/")],
    ),
    plain(
        &["bailingmoe", "bailingmoe2", "llada-moe"],
        &[r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"],
    ),
    plain(
        &["seed-coder"],
        &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
    ),
    plain(
        &["exaone-moe"],
        &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        ],
    ),
];

const fn plain(names: &'static [&'static str], expressions: &'static [&'static str]) -> Split {
    Split { names, expressions, ignore_merges: false, bos: false }
}

impl Split {
    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        SPLITS.iter().find(|split| split.names.contains(&name))
    }

    /// The one that a `tokenizer.json` has, by its `pre_tokenizer`. Of two that split alike the one that treats whole tokens
    /// as it does.
    pub(super) fn of(splitter: &Value, ignore_merges: bool) -> Option<&'static Self> {
        let found = expressions(splitter)?;
        let alike = |split: &&Self| split.expressions == found.as_slice();
        let mut all = SPLITS.iter().filter(alike);
        let first = all.clone().next();
        all.find(|split| split.ignore_merges == ignore_merges).or(first)
    }

    /// As a `tokenizer.json` says it.
    pub(super) fn pre_tokenizer(&self) -> Value {
        let split = |expression: &&str| json!({ "type": "Split", "pattern": { "Regex": expression }, "behavior": "Isolated", "invert": false });
        let mut parts: Vec<Value> = self.expressions.iter().map(split).collect();
        parts.push(json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false }));
        json!({ "type": "Sequence", "pretokenizers": parts })
    }
}

/// What a `pre_tokenizer` does, in turn.
fn parts(splitter: &Value) -> &[Value] {
    splitter["pretokenizers"].as_array().map_or(std::slice::from_ref(splitter), Vec::as_slice)
}

/// The expressions of a `pre_tokenizer`, in turn; `None` where it does something else than to split by such.
fn expressions(splitter: &Value) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for part in parts(splitter) {
        let flag = |key: &str, default: bool| part[key].as_bool().unwrap_or(default);
        match part["type"].as_str()? {
            "Split" => match (part["behavior"].as_str()?, flag("invert", false)) {
                // What is matched stays, and the rest is nothing or stays as well.
                ("Isolated", false) | ("Removed", true) => found.push(part["pattern"]["Regex"].as_str()?.to_owned()),
                _ => return None,
            },
            "Digits" => found.push(if flag("individual_digits", false) { DIGIT } else { r"\p{N}+" }.to_owned()),
            "ByteLevel" if flag("use_regex", true) => found.push(GPT2.to_owned()),
            "ByteLevel" => {}
            _ => return None,
        }
    }
    Some(found)
}

/// Whether a blank is put before a text, which llama.cpp does not do for tokenizers of this kind.
pub(super) fn puts_a_blank(splitter: &Value) -> bool {
    parts(splitter).iter().any(|part| part["add_prefix_space"].as_bool() == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_has_the_name_that_it_is_read_by() {
        for split in SPLITS {
            let found = Split::of(&split.pre_tokenizer(), split.ignore_merges).unwrap();
            assert_eq!(found.names[0], split.names[0]);
            assert!(split.names.iter().all(|name| Split::named(name).unwrap().names[0] == split.names[0]));
        }
        let starcoder = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}]});
        assert_eq!(Split::of(&starcoder, false).unwrap().names[0], "smollm");
        let own = json!({"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": false});
        assert!(Split::of(&own, false).is_none());
        assert!(Split::of(&json!({"type": "Whitespace"}), false).is_none());
    }
}
