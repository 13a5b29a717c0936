//! [`Checkpoint::overlaid`]: a checkpoint some of whose tensors are in memory, such as a base with an adapter in its weights.

use super::module::{Place, matrix_shape, product};
use super::tensor::View;
use super::{Checkpoint, Dtype, Module, Role, Tensor};
use crate::error::{Error, Result};

impl Checkpoint {
    /// This checkpoint with some tensors as `f32` values in place of what the files hold, or beside it, and another
    /// `config.json`. Each is the tensor's full name, its sizes as a file stores them, and its values.
    ///
    /// # Errors
    /// As [`open`](Self::open); sizes and values that do not agree.
    pub fn overlaid(
        &self,
        changed: Vec<(String, Vec<usize>, Vec<f32>)>,
        config: Option<serde_json::Value>,
    ) -> Result<Self> {
        let mut over = Self::open(&self.path)?;
        for (name, shape, values) in changed {
            if product(&shape) != values.len() {
                return Err(Error::failure(format!("{name}: {} values do not fill {shape:?}", values.len())));
            }
            over.replace(name, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect());
        }
        if let Some(config) = config {
            over.spec = super::spec(&over.path, Some(&config), &over.by_name);
            over.config = Some(config);
        }
        Ok(over)
    }

    fn replace(&mut self, name: String, shape: Vec<usize>, bytes: Vec<u8>) {
        let tensor = Tensor {
            name: name.clone(),
            dtype: Dtype::F32,
            shape: shape.clone(),
            bytes: bytes.len() as u64,
            shard: 0,
            begin: 0,
            view: View::Plain,
        };
        let at = match self.by_name.get(&name) {
            Some(&at) => {
                self.tensors[at] = tensor;
                at
            }
            None => {
                self.tensors.push(tensor);
                self.by_name.insert(name.clone(), self.tensors.len() - 1);
                self.tensors.len() - 1
            }
        };
        let length = bytes.len() as u64;
        self.memory.insert(name.clone(), bytes);
        let module_name = name.strip_suffix(".weight").unwrap_or(&name);
        if let Some(&place) = self.module_by_name.get(module_name) {
            let module = &mut self.modules[place];
            let mut sizes = shape;
            if module.transposed {
                sizes.reverse();
            }
            (module.shape, module.dtype, module.bytes) = (sizes, Dtype::F32, length);
            (module.state, module.problem, module.tied) = (None, None, false);
            (module.packed, module.about, module.tensor) = (None, None, at);
        } else if name.ends_with(".weight") {
            let role = Role::of(module_name);
            let [rows, cols] = matrix_shape(&shape);
            self.modules.push(Module {
                name: module_name.to_owned(),
                linear: shape.len() == 2 && !matches!(role, Role::Embedding | Role::Head | Role::Norm),
                shape,
                dtype: Dtype::F32,
                layer: super::role::layer(module_name),
                role,
                parameters: (rows * cols) as u64,
                bytes: length,
                tied: false,
                problem: None,
                tensor: at,
                transposed: false,
                state: None,
                packed: None,
                slice: None,
                about: None,
            });
            self.modules.sort_by_cached_key(|module| Place::new(&module.name, module.role));
            let places = self.modules.iter().enumerate().map(|(at, module)| (module.name.clone(), at));
            self.module_by_name = places.collect();
        }
    }
}
