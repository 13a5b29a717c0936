//! [`Params`]: what is trained, and [`Grads`], its gradients.

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A of a LoRA pair, `[r, in]`.
    LoraA,
    /// B of a LoRA pair, `[out, r]`.
    LoraB,
    /// DoRA's magnitudes, `[1, out]`.
    Magnitude,
    /// A matrix of the model itself.
    Weight,
    /// A norm's scale or any bias.
    Vector,
}

/// One trained tensor, in `f32`.
#[derive(Clone, Debug)]
pub struct Param {
    /// The module's name, as the checkpoint has it; a bias ends in `.bias`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Its values, row after row.
    pub value: Vec<f32>,
}

/// Everything that is trained, in the order of the model.
#[derive(Clone, Debug, Default)]
pub struct Params {
    /// The tensors.
    pub list: Vec<Param>,
}

impl Params {
    /// Adds one; gives its number.
    pub(crate) fn push(&mut self, name: String, kind: Kind, shape: [usize; 2], value: Vec<f32>) -> usize {
        self.list.push(Param { name, kind, shape, value });
        self.list.len() - 1
    }

    /// Values of one.
    pub fn value(&self, number: usize) -> &[f32] {
        &self.list[number].value
    }

    /// Elements of all.
    pub fn elements(&self) -> usize {
        self.list.iter().map(|param| param.value.len()).sum()
    }

    /// Gradients for them, zero.
    pub fn zeros(&self) -> Grads {
        Grads(self.list.iter().map(|param| vec![0.0; param.value.len()]).collect())
    }
}

/// A gradient for each of [`Params`].
#[derive(Clone, Debug, Default)]
pub struct Grads(pub Vec<Vec<f32>>);

impl Grads {
    /// Sets all to zero.
    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(|gradient| gradient.fill(0.0));
    }
}
