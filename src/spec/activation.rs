//! [`Activation`]: the nonlinearity of an MLP.

/// The function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`: `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// `x/2 · (1 + erf(x/√2))`: `gelu`.
    Gelu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    Relu2,
    /// `α₊ x² + x/2` for x > 0, else `α₋ (e^min(x, ε) − 1 − x) + x/2`, with learned `α₊ = ln(1 + e^a)`, `α₋ = 1/2 + ln(1 + e^b)`
    /// and `ε = −1e-6` (arXiv 2411.13010).
    Xielu,
    /// `(min(max(up, −limit), limit) + 1) · g · sigmoid(α g)`, `g = min(gate, limit)`, of rows in which gate and up alternate
    /// (gpt-oss); always gated.
    ClampedSwiglu,
}

impl Activation {
    /// By the name that transformers has for it.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "silu" | "swish" => Self::Silu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_python_tanh" => Self::GeluTanh,
            "gelu" | "gelu_python" => Self::Gelu,
            "relu" => Self::Relu,
            "relu2" => Self::Relu2,
            "xielu" => Self::Xielu,
            _ => return None,
        })
    }
}
