//! Definitions, formulas and sources that only the chapters need.

use crate::app::look::glossary::Term;

pub const FULL: Term = Term {
    name: "Full tuning",
    definition: "Every parameter of the base may move. Each tuned version is a model of its own, as large as the base.",
    formula: "trainable = all parameters",
    source: "LoRA, arXiv 2106.09685, §1 and §2",
};

pub const DOMAIN: Term = Term {
    name: "Tuning for a domain",
    definition: "The base goes on reading: plain texts of one field, and the model learns to predict every token. Says nothing about \
                 which parameters move.",
    formula: "loss = mean over all tokens of −ln p(token | before)",
    source: "Gururangan et al. 2020, arXiv 2004.10964",
};

pub const TASK: Term = Term {
    name: "Tuning for a task",
    definition: "Pairs of a prompt and a wanted completion; the model learns to predict the completion alone. Says nothing about which \
                 parameters move.",
    formula: "loss = mean over the completion's tokens of −ln p(token | before)",
    source: "LoRA, arXiv 2106.09685, §2",
};

pub const STATE: Term = Term {
    name: "What training keeps for each parameter that moves",
    definition: "The weight, its gradient, and Adam's two running averages, each in the type that the run uses.",
    formula: "bytes = N (weight + gradient + 2 moments)",
    source: "Kingma & Ba 2014, arXiv 1412.6980; Rajbhandari et al. 2019, arXiv 1910.02054, §3.1",
};

pub const QLORA_MEMORY: Term = Term {
    name: "Weights under QLoRA",
    definition: "4 bits each, and for every block of 64 a scale, which double quantization keeps in 8 bits.",
    formula: "N (4 + 8/64 + 32/(256 · 64)) / 8 bytes",
    source: "QLoRA, arXiv 2305.14314, §3",
};

pub const RANK_OF_MATRIX: Term = Term {
    name: "Rank of a matrix",
    definition: "The number of linearly independent columns. There are as many independent rows.",
    formula: "rank(M) = dim { M x }",
    source: "Strang, Introduction to Linear Algebra, ch. 3",
};

pub const ELIMINATION: Term = Term {
    name: "Elimination",
    definition: "Multiples of one row are taken from the rows below it until each column has zeros below its pivot. The rank is \
                 the number of pivots.",
    formula: "row ← row − factor · pivot row",
    source: "Strang, Introduction to Linear Algebra, ch. 2",
};

pub const SVD: Term = Term {
    name: "Singular values by hand",
    definition: "The square roots of the eigenvalues of MᵗM, which are the roots of its characteristic polynomial. In floating \
                 point a value counts as zero below max(m, n) · ε · σ₁.",
    formula: "det(MᵗM − λI) = 0,   σᵢ = √λᵢ,   uᵢ = M vᵢ / σᵢ",
    source: "Golub & Van Loan, Matrix Computations, §2.4; numpy.linalg.matrix_rank",
};

pub const PLANTED: Term = Term {
    name: "Planted rank",
    definition: "k orthonormal pairs of directions with known strengths, and independent normal noise in every cell.",
    formula: "M = s₁ u₁ v₁ᵗ + … + s_k u_k v_kᵗ + s N(0, 1)",
    source: "the spiked model of Gavish & Donoho 2014, arXiv 1305.5870",
};

pub const EDGE: Term = Term {
    name: "Noise edge",
    definition: "The largest singular value that noise alone would show. What is planted below it drowns.",
    formula: "s (√m + √n)",
    source: "Bai & Yin 1993; Marchenko & Pastur 1967",
};

pub const GAVISH: Term = Term {
    name: "Gavish–Donoho",
    definition: "The best threshold where the strength of the noise is not known: it is read off the median singular value.",
    formula: "σ > ω(β) · median(σ),   ω(1) = 2.8584",
    source: "arXiv 1305.5870",
};

pub const PAPER: Term = Term {
    name: "The paper's numbers",
    definition: "Table 15 prints 4.7M for one matrix at r = 2 and for query and value at r = 1. r = 8 on query and value is 37.7M. \
                 \"10,000 times\" compares checkpoints at r = 4, 350 GB against 35 MB.",
    formula: "2 · L_LoRA · d · r,   d = 12,288",
    source: "LoRA, arXiv 2106.09685v2, §4.2, §5.1, table 15",
};

pub const ANCHORS: Term = Term {
    name: "When a high rank pays",
    definition: "Accuracy of GPT-3 on WikiSQL hardly depends on r. Llama 3.2 3B, tuned on GSM8K at r = 64, loses accuracy with \
                 every cut of its rank: there is more to learn, and less of it is in the base.",
    formula: "",
    source: "arXiv 2106.09685, table 6; PEFT documentation, \"Convert adapters to LoRA\"",
};

pub const NF4: Term = Term {
    name: "NF4",
    definition: "16 levels at quantiles of the normal distribution, one of them zero, scaled by the block's largest magnitude.",
    formula: "ŵ = absmax · level(code)",
    source: "QLoRA, arXiv 2305.14314, §3; values of bitsandbytes",
};

pub const INT4: Term = Term {
    name: "INT4, symmetric",
    definition: "Codes −7 … 7, evenly spaced; one of the 16 is not used.",
    formula: "ŵ = (absmax / 7) · round(7 w / absmax)",
    source: "formula of symmetric integer quantization; Jacob et al. 2017, arXiv 1712.05877",
};

pub const BITS_PER_WEIGHT: Term = Term {
    name: "Bits per weight",
    definition: "4 for the code, and the scale shared by the block: 16 bits are 3.6 times as much at block 64.",
    formula: "4 + 32/64 = 4.5;   with double quantization 4 + 8/64 + 32/(64 · 256) = 4.127",
    source: "QLoRA, arXiv 2305.14314, §3",
};

pub const QLORA: Term = Term {
    name: "What QLoRA quantizes",
    definition: "The frozen base weight is stored in 4 bits and dequantized for each product. A and B are kept and trained in 16 \
                 bits. That saves memory, not time: every product widens the weight first.",
    formula: "y = dequant(W₀⁴ᵇⁱᵗ) x + s B A x",
    source: "QLoRA, arXiv 2305.14314, §3, equations 5 and 6",
};

pub const LOSS: Term = Term {
    name: "Loss",
    definition: "How surprised the model is by the next token, on the mean; held-out loss is taken on rows that it is not trained on.",
    formula: "−1/n Σ ln p(token | before)",
    source: "cross-entropy in nats",
};

pub const TRUNCATION: Term = Term {
    name: "Energy is not accuracy",
    definition: "Cutting ΔW to its strongest k directions keeps most of its energy and loses more of the accuracy than the missing \
                 energy suggests; but train high and cut later can beat training low.",
    formula: "E(k) = (σ₁² + … + σ_k²) / Σσ²",
    source: "PEFT documentation, \"Convert adapters to LoRA\"",
};

pub const CONTEXT: Term = Term {
    name: "Context",
    definition: "The tokens that a model looks at when it predicts the next one. How long it may be is a property of the model; \
                 how much text the model was trained on is another number, thousands of times as large.",
    formula: "context = tokens before the next one",
    source: "Vaswani et al. 2017, arXiv 1706.03762",
};

pub const GRADIENT: Term = Term {
    name: "Gradient",
    definition: "How the loss changes when one number changes a little. A training step moves every number against its gradient.",
    formula: "g = ∂ loss / ∂ w,   w ← w − lr · g",
    source: "Goodfellow et al., Deep Learning, ch. 4.3",
};

pub const ADAM: Term = Term {
    name: "Adam",
    definition: "The usual optimizer. For each number it keeps a running average of its gradient and one of the gradient's \
                 square: these two are as large as what is trained.",
    formula: "w ← w − lr · m / (√v + ε)",
    source: "Kingma & Ba 2014, arXiv 1412.6980",
};

pub const ACTIVATION: Term = Term {
    name: "Activation",
    definition: "What a layer gives to the next one. Training keeps the activations until the gradients are computed, so they \
                 grow with the batch and with the length of the texts.",
    formula: "bytes ∝ batch · tokens · width · blocks",
    source: "Korthikanti et al. 2022, arXiv 2205.05198",
};

pub const BATCH: Term = Term {
    name: "Batch",
    definition: "The texts of one training step: their gradients are averaged before the weights move.",
    formula: "tokens of a step = batch · length",
    source: "Goodfellow et al., Deep Learning, ch. 8.1.3",
};

pub const HELD_OUT: Term = Term {
    name: "Held-out data",
    definition: "Texts that are not trained on. Their loss says what was learned; the loss of the training texts can also fall \
                 because they are remembered.",
    formula: "loss over rows that no step has seen",
    source: "Goodfellow et al., Deep Learning, ch. 5.3",
};

pub const SEED: Term = Term {
    name: "Seed",
    definition: "The number from which all random choices follow: the first A, the order of the texts. The same seed gives the \
                 same run.",
    formula: "random numbers = f(seed)",
    source: "Knuth, The Art of Computer Programming, vol. 2, ch. 3",
};

pub const INITIAL: Term = Term {
    name: "The first A and B",
    definition: "A starts with small random numbers, B with zeros: B A is 0 and the tuned model starts as the base. Both are \
                 trained directly. ΔW is never computed and decomposed.",
    formula: "A ~ U(−1/√in, 1/√in),   B = 0",
    source: "LoRA, arXiv 2106.09685, §4.1; PEFT, Linear.reset_lora_parameters",
};

pub const MERGED: Term = Term {
    name: "Merged",
    definition: "s · B A is added to the base's weights once. The result is a model like the base: the same memory, the same time \
                 for each token.",
    formula: "W = W₀ + s · B A",
    source: "LoRA, arXiv 2106.09685, §4.1, “No Additional Inference Latency”",
};

pub const LATENCY: Term = Term {
    name: "Time that adapters add",
    definition: "Adapters of 2019 are small layers behind others: each token waits for them. GPT-2 medium on one GPU, one text of \
                 128 tokens: 19.8 ms tuned whole or with LoRA merged, 23.9 ms with Adapter L (+20.7 %), 25.8 ms with Adapter H \
                 (+30.3 %).",
    formula: "h = x + W_up f(W_down x), after every sublayer",
    source: "LoRA, arXiv 2106.09685, table 1",
};
