//! What PEFT knows a base's modules by: [`PeftExperts`], [`PeftNames`].

use super::{ModelSpec, ModuleSpec, Role};
use std::collections::{HashMap, HashSet};

/// The experts of a block as transformers 5 and PEFT have them: the parameters `gate_up_proj`, or
/// `up_proj` where nothing is gated, and `down_proj` of one module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeftExperts {
    /// The module: `model.layers.0.mlp.experts`.
    pub module: String,
    /// The router's module: `model.layers.0.mlp.gate`.
    pub router: String,
    /// `all-linear` and names of their projections mean them too: PEFT makes parameters of such targets.
    pub converted: bool,
    /// The router is a linear layer by itself, which `all-linear` means too (Gemma 4). Others are parameters, or layers that give
    /// more than a tensor (Phi-3.5-MoE, Llama 4): PEFT takes these, and fails at the first batch.
    pub linear_router: bool,
    /// A pair's two sides change places: PEFT takes the parameter's `[experts, in, out]` for `[experts, out, in]` (Llama 4).
    pub swapped: bool,
}

impl PeftExperts {
    /// The parameter that a projection of these is.
    pub fn parameter(&self, role: Role) -> String {
        let leaf = match role {
            Role::Down => "down_proj",
            Role::Up => "up_proj",
            _ => "gate_up_proj",
        };
        format!("{}.{leaf}", self.module)
    }
}

/// Projections that PEFT 0.21 takes for the experts', whatever module they stand in, where a base's experts are
/// [converted](PeftExperts::converted): `_MOE_TARGET_MODULE_MAPPING` of its `utils/transformers_weight_conversion.py`.
pub const TAKEN_FOR_EXPERTS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// What PEFT calls the modules of a base, and which of them `target_modules` cannot name: it adapts these as parameters, by
/// `target_parameters`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeftNames {
    /// What names begin with in the file and in the class: see [`ModelSpec::class_stem`].
    stem: Option<[String; 2]>,
    /// Routers that the class calls otherwise.
    routers: HashMap<String, String>,
    parameters: HashSet<String>,
}

impl PeftNames {
    /// Of a base that is not there: `parameters` are the modules whose `weight` an adapter of it names in `target_parameters`.
    pub fn of_parameters(parameters: impl IntoIterator<Item = String>) -> Self {
        Self { parameters: parameters.into_iter().collect(), ..Self::default() }
    }

    /// With the parameters of another.
    pub fn with(mut self, other: Self) -> Self {
        self.parameters.extend(other.parameters);
        self
    }

    /// What transformers' class calls a module.
    pub fn class(&self, module: &str) -> String {
        let module = self.routers.get(module).map_or(module, String::as_str);
        match self.stem.as_ref().and_then(|[file, class]| Some((class, module.strip_prefix(file.as_str())?))) {
            Some((class, rest)) => format!("{class}{rest}"),
            None => module.to_owned(),
        }
    }

    /// Whether PEFT adapts a module as the parameter `weight`: routers that are no linear layers of transformers' class, and, beside
    /// experts that it converts, MLPs whose projections have the experts' names.
    pub fn is_parameter(&self, module: &str) -> bool {
        self.parameters.contains(module)
    }
}

impl ModelSpec {
    /// What names of the decoder's modules begin with in the file and in transformers' class, where these differ: PEFT names
    /// adapters by the class.
    pub fn class_stem(&self) -> Option<[String; 2]> {
        let (stem, _) = self.embedding.name.rsplit_once('.')?;
        let class = match stem {
            "backbone" => "model.",
            _ if self.is_part => "model.language_model.",
            _ => return None,
        };
        let stem = format!("{stem}.");
        (stem != class).then(|| [stem, class.to_owned()])
    }

    /// Whether peft 0.21.2 refuses pairs on linear layers of this last name: a fused kernel of Mamba reads their weight past the adapter
    /// (`_check_lora_target_modules_mamba` of its `tuners/tuners_utils.py`).
    pub fn refused_by_peft(&self, leaf: &str) -> bool {
        leaf == "out_proj" && matches!(self.model_type.as_str(), "falcon_h1" | "nemotron_h")
    }

    /// What PEFT calls its modules.
    pub fn peft_names(&self) -> PeftNames {
        let mut names = PeftNames { stem: self.class_stem(), ..PeftNames::default() };
        for experts in self.experts() {
            let (file, class) = (&experts.router.name, &experts.peft.router);
            if !experts.peft.linear_router {
                names.parameters.insert(file.clone());
            }
            if file != class {
                names.routers.insert(file.clone(), class.clone());
            }
        }
        if self.experts().any(|experts| experts.peft.converted) {
            let leaf = |name: &str| name.rsplit('.').next().is_some_and(|leaf| TAKEN_FOR_EXPERTS.contains(&leaf));
            let taken = |module: &&ModuleSpec| module.linear && module.copies == 1 && leaf(&module.name);
            names.parameters.extend(self.modules().filter(taken).map(|module| module.name.clone()));
        }
        // An adapter has the class's names.
        let classes: Vec<String> = names.parameters.iter().map(|module| names.class(module)).collect();
        names.parameters.extend(classes);
        names
    }
}
