//! [`Chapter`]: the nine chapters, with their words. What a person does in them is in the other files of this folder.

use crate::app::effect::Place;
use crate::app::look::glossary::{self, Term};

use super::terms;

/// One screen each, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Chapter {
    /// Base models and ways to tune them.
    Ways,
    /// What tuning all parameters costs.
    Cost,
    /// W₀ + ΔW.
    Change,
    /// B times A.
    Factors,
    /// What rank is.
    Rank,
    /// The rank as a dial.
    Dial,
    /// Parameters for each rank.
    Counts,
    /// 16 bit to 4.
    Bits,
    /// A run.
    Tune,
}

/// The words of a chapter.
pub struct Words {
    /// What persists.
    pub id: &'static str,
    /// As in the list.
    pub title: &'static str,
    /// Before the picture: at most 80 words.
    pub text: &'static str,
    /// Words that occur here for the first time.
    pub new: &'static [Term],
    /// What is to be reached.
    pub goal: &'static str,
    /// Formulas and sources, behind a fold.
    pub terms: &'static [Term],
    /// Where the same is done on real models.
    pub place: Place,
    /// What is done there.
    pub there: &'static str,
}

impl Chapter {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Ways,
        Self::Cost,
        Self::Change,
        Self::Factors,
        Self::Rank,
        Self::Dial,
        Self::Counts,
        Self::Bits,
        Self::Tune,
    ];

    /// Counted from 1.
    pub fn number(self) -> usize {
        self as usize + 1
    }

    /// The one before.
    pub fn previous(self) -> Option<Self> {
        (self as usize).checked_sub(1).and_then(|i| Self::ALL.get(i)).copied()
    }

    /// The one after.
    pub fn next(self) -> Option<Self> {
        Self::ALL.get(self as usize + 1).copied()
    }

    /// The chapter of this name; the first where there is none.
    pub fn of(id: &str) -> Self {
        Self::ALL.into_iter().find(|chapter| chapter.words().id == id).unwrap_or(Self::Ways)
    }

    /// Its words.
    pub fn words(self) -> &'static Words {
        match self {
            Self::Ways => &WAYS,
            Self::Cost => &COST,
            Self::Change => &CHANGE,
            Self::Factors => &FACTORS,
            Self::Rank => &RANK,
            Self::Dial => &DIAL,
            Self::Counts => &COUNTS,
            Self::Bits => &BITS,
            Self::Tune => &TUNE,
        }
    }
}

const WAYS: Words = Words {
    id: "ways",
    title: "One base, many tunings",
    text: "A base model has read much text and learned one thing: to predict the next token from the tokens before it. Tuning \
           changes what it is good at. Two questions are often mixed up. What do the new data teach: a domain, or a task with \
           its answers? Which numbers may change: all, or those of a small adapter? The data decide what is learned. The \
           numbers that change decide what it costs, and how much can be learned.",
    new: &[glossary::TOKEN, terms::CONTEXT, terms::MERGED],
    goal: "Keep 20 tuned versions of LLaMA 7B on a disk of 40 GB.",
    terms: &[terms::FULL, terms::DOMAIN, terms::TASK, glossary::TRAINABLE],
    place: Place::part("parameters", "counts"),
    there: "Count for the open model: Parameters tab",
};

const COST: Words = Words {
    id: "cost",
    title: "Why full tuning is hard",
    text: "Training keeps more than weights. Every weight that moves has a gradient, and Adam keeps two running averages \
           beside it: several times the size of the model, before one activation. Turn the size from 1 to 400 billion \
           parameters. An adapter leaves the base frozen: gradients and averages exist for the adapter alone. QLoRA also \
           keeps the frozen base in 4 bits.",
    new: &[terms::GRADIENT, terms::ADAM, terms::ACTIVATION, terms::BATCH],
    goal: "Find the largest model whose full tuning still fits one GPU of 80 GB (to within a tenth).",
    terms: &[terms::STATE, terms::QLORA_MEMORY],
    place: Place::part("parameters", "memory"),
    there: "Memory of the open model: Parameters tab",
};

const CHANGE: Words = Words {
    id: "change",
    title: "Track the change",
    text: "Tuning moves a weight matrix from W₀ to W. What has moved is ΔW. Kept apart, the two compute the same: W x is W₀ x \
           plus ΔW x. But now the base stays as it is, frozen and shared, and all that was learned is in ΔW. Edit a cell of \
           ΔW, or of W: the other one follows.",
    new: &[glossary::DELTA],
    goal: "The base answers (3, 4, 3) to x. Teach it to answer (6, 4, 1), and leave W₀ alone.",
    terms: &[glossary::DELTA, glossary::FROBENIUS],
    place: Place::tab("spectrum"),
    there: "See ΔW of the open model: Spectrum tab",
};

const FACTORS: Words = Words {
    id: "factors",
    title: "Nine numbers from six",
    text: "LoRA does not store ΔW. It stores a column B and a row A: each cell of ΔW is what stands left of it times what \
           stands above it. Nine numbers from six. The price is that all rows are multiples of one row; a change of \
           another kind cannot be written at rank 1.",
    new: &[terms::INITIAL, glossary::FROBENIUS],
    goal: "Make ΔW equal to the first target. Then take the second one and come as close as rank 1 can.",
    terms: &[glossary::RANK, glossary::APPROXIMATION, glossary::RESIDUAL],
    place: Place::tab("spectrum"),
    there: "Turn the rank on a real ΔW: Spectrum tab",
};

const RANK: Words = Words {
    id: "rank",
    title: "What rank is",
    text: "The rank of a matrix is the number of its columns that are really new: no sum of multiples of the others. \
           Elimination finds them by making zeros; what is left standing are the pivots. Singular values find them by \
           strength: each one above zero is an independent direction. Both count the same, until rounding or noise makes \
           zero a matter of opinion.",
    new: &[glossary::SIGMA],
    goal: "Change one number so that the rank falls from 3 to 2.",
    terms: &[terms::RANK_OF_MATRIX, terms::ELIMINATION, terms::SVD, glossary::SIGMA],
    place: Place::tab("spectrum"),
    there: "Singular values of a real ΔW: Spectrum tab",
};

const DIAL: Words = Words {
    id: "dial",
    title: "Turn the dial",
    text: "The ΔW of a full tuning has full rank in practice: noise gives every direction some strength. The question becomes how many \
           directions are worth keeping. Here some were planted under noise. Turn the dial until the rest looks like noise, \
           guess how many there are, and see what each rule would have said.",
    new: &[glossary::ENERGY, glossary::RESIDUAL],
    goal: "Guess the planted rank exactly, three times.",
    terms: &[terms::PLANTED, terms::EDGE, terms::GAVISH, glossary::ENERGY],
    place: Place::tab("spectrum"),
    there: "The same rules on a real ΔW: Spectrum tab",
};

const COUNTS: Words = Words {
    id: "counts",
    title: "What a rank costs",
    text: "A pair B, A adds r (in + out) numbers to a matrix. Which matrices get one and at what rank decides the count. GPT-3 \
           has 96 blocks with four attention matrices of 12,288 × 12,288. On its tasks the LoRA paper found ranks 1 to 8 \
           enough. Cutting a trained adapter costs more: look at the third plot.",
    new: &[glossary::TRAINABLE, terms::LATENCY],
    goal: "Reach the paper's 4.7M (exactly 4,718,592) in two different ways.",
    terms: &[glossary::TRAINABLE, terms::PAPER, terms::ANCHORS, glossary::SCALING],
    place: Place::part("parameters", "counts"),
    there: "Count for the open model: Parameters tab",
};

const BITS: Words = Words {
    id: "bits",
    title: "From 16 bits to 4",
    text: "Four bits name 16 levels. A block of weights shares one scale, and each weight becomes the code of the nearest \
           level. INT4 spaces its levels evenly; NF4 puts them where normally distributed weights are; FP4 makes larger \
           steps further out. Drag the weights. Then see what QLoRA quantizes, what it does not, and whether 4 bits are faster.",
    new: &[terms::BITS_PER_WEIGHT],
    goal: "Find weights for which INT4 makes a smaller error than NF4.",
    terms: &[terms::NF4, terms::INT4, terms::BITS_PER_WEIGHT, terms::QLORA],
    place: Place::tab("quantization"),
    there: "Quantize a real weight: Quantization tab",
};

const TUNE: Words = Words {
    id: "tune",
    title: "Do it",
    text: "Now tune the bundled model yourself: three short runs, at ranks 1, 8 and 64, with the engine of the Train tab. \
           Before you start: which loss will be lowest, and by how much? In so few steps a higher rank mostly learns faster, \
           not more. What a rank could hold in the end takes longer runs, and a learning rate of its own.",
    new: &[glossary::LEARNING_RATE, terms::HELD_OUT, terms::BATCH, terms::SEED],
    goal: "Run all three ranks to their end, and ask the results something.",
    terms: &[terms::LOSS, glossary::SCALING, terms::TRUNCATION],
    place: Place::part("train", "data"),
    there: "Tune with your own data: Train tab",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_eighty_words_before_the_picture() {
        for chapter in Chapter::ALL {
            let words = chapter.words();
            let count = words.text.split_whitespace().count();
            assert!((30..=80).contains(&count), "{}: {count} words", words.title);
            assert!(!words.new.is_empty() && words.goal.ends_with('.') && words.text.ends_with('.'), "{}", words.title);
            assert!(
                words.terms.iter().all(|t| !t.definition.is_empty() && !t.source.is_empty() || t.name.contains("norm"))
            );
            assert_eq!(Chapter::of(words.id), chapter);
            assert_eq!(chapter.next().map_or(Some(chapter), Chapter::previous), Some(chapter));
        }
        assert_eq!(Chapter::of("no such chapter"), Chapter::Ways);
    }
}
