//! `rankscope quantize`: what a few bits do to a model's weights; a pre-quantized folder.

use super::choice;
use super::screen::Screen;
use super::text::Table;
use crate::checkpoint::{Checkpoint, Dtype, Module, NameMap};
use crate::error::{Error, Result};
use crate::progress::Part;
use crate::quant::{Fit, Format, Group, Measures, Recipe, Scheme, measure, measure_stored};
use crate::train::prequantized;
use crate::units::{bytes, real, shape};
use clap::Args;
use regex::Regex;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Debug, Args)]
pub struct Quantize {
    /// Model: a folder as on the Hugging Face Hub, or any .safetensors file
    model: PathBuf,

    /// Only modules whose name matches this regular expression
    #[arg(long, value_name = "REGEX")]
    modules: Option<Regex>,

    /// Formats to compare, separated by commas
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "nf4,fp4,int4-symmetric,int4-affine,q4_0,q4_1,int8,q8_0"
    )]
    formats: Vec<Format>,

    /// Weights per scale where the format leaves the choice: a number, row or tensor
    #[arg(long, value_name = "N", default_value = "64")]
    block: Block,

    /// Double quantization: the scales in 8 bits (NF4 and FP4)
    #[arg(long)]
    double_quant: bool,

    /// The same model as it is stored elsewhere (GGUF, GPTQ, AWQ, …): its own rounding, beside the formats
    #[arg(long, value_name = "MODEL", conflicts_with = "save")]
    against: Option<PathBuf>,

    /// What a pair of these ranks leaves of the first format's error: by SVD, LoftQ and, with --data, QERA
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with_all = ["against", "save"])]
    repair: Vec<usize>,

    /// Data whose first rows say which inputs are large: --repair then counts the error of outputs too
    #[arg(long, value_name = "FILE", requires = "repair")]
    data: Option<PathBuf>,

    /// Write the model with 4-bit linear weights to this folder, as transformers and bitsandbytes load it
    #[arg(long, value_name = "DIR", requires = "format")]
    save: Option<PathBuf>,

    /// 4-bit format that --save writes: nf4 or fp4
    #[arg(long, value_name = "FORMAT", requires = "save", conflicts_with = "formats")]
    format: Option<Format>,

    /// Data type of all other tensors that --save writes, and compute dtype of the 4-bit ones
    #[arg(long, value_parser = choice::written(), default_value = "f32", requires = "save")]
    dtype: Dtype,
}

/// What shares a scale, as it is typed.
#[derive(Clone, Copy, Debug)]
struct Block(Group);

impl FromStr for Block {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "row" => Ok(Self(Group::Row)),
            "tensor" => Ok(Self(Group::Tensor)),
            _ => match text.parse() {
                Ok(block) if block > 0 => Ok(Self(Group::Block(block))),
                _ => Err(Error::usage("expected a number of weights above 0, row or tensor")),
            },
        }
    }
}

impl Quantize {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let model = Checkpoint::open(&self.model)?;
        match (&self.save, self.format) {
            (Some(out), Some(format)) => self.save(&model, out, format, screen),
            _ if !self.repair.is_empty() => {
                if let Some(0) = self.repair.iter().min() {
                    return Err(Error::usage("rank 0 repairs nothing; expected 1 or more"));
                }
                let format = self.formats.first().copied().unwrap_or(Format::Nf4);
                let recipe = Recipe::with(format, self.block.0, self.double_quant);
                let modules = self.choose(&model)?;
                super::repairs::repairs(&model, &modules, recipe, &self.repair, self.data.as_deref(), screen)
            }
            _ => self.compare(&model, screen),
        }
    }

    fn compare(&self, model: &Checkpoint, screen: &Screen) -> Result<()> {
        let modules = self.choose(model)?;
        let recipes: Vec<Recipe> =
            self.formats.iter().map(|&format| Recipe::with(format, self.block.0, self.double_quant)).collect();
        let stored = self.against.as_deref().map(Checkpoint::open).transpose()?;
        let names =
            stored.as_ref().map(|stored| NameMap::new(stored.modules().iter().map(|module| module.name.as_str())));
        let table = titles(&modules);
        if !screen.json {
            screen.print(&table.head())?;
        }
        let (mut rows, mut skipped, mut failed) = (Vec::new(), Vec::new(), 0usize);
        for (index, module) in modules.iter().enumerate() {
            let part = Part::new(screen, index as u64, modules.len() as u64);
            let weight = match model.matrix(module, &Part::new(&part, 0, 2)) {
                Err(error) if !error.is_cancelled() => {
                    screen.message(&format!("error: {error}"));
                    skipped.push(json!({ "module": module.name, "reason": error.to_string() }));
                    failed += 1;
                    continue;
                }
                weight => weight?,
            };
            if let (Some(stored), Some(names)) = (&stored, &names) {
                let other = names.find(&module.name).map(|at| &stored.modules()[at]);
                let found = match other.filter(|other| other.matrix_shape() == weight.shape()) {
                    Some(other) => {
                        let rounded = stored.matrix(other, &part)?;
                        let bits = 8.0 * stored.stored_bytes(other) as f64 / weight.data().len().max(1) as f64;
                        Ok((other, bits, measure_stored(weight.data(), rounded.data(), weight.cols(), &part)?))
                    }
                    None => Err(format!("{} has no such weight of this shape", stored.name())),
                };
                match found {
                    Ok((other, bits, found)) if screen.json => rows.push(as_stored(module, other, bits, &found)),
                    Ok((other, bits, found)) => screen.print(&table.line(&line_stored(module, other, bits, &found)))?,
                    Err(reason) => {
                        screen.message(&format!("skipped: {}: {reason}", module.name));
                        skipped.push(json!({ "module": module.name, "format": "stored", "reason": reason }));
                    }
                }
            }
            for recipe in &recipes {
                if let Some(problem) = recipe.problem(weight.shape()) {
                    screen.message(&format!("skipped: {}: {problem}", module.name));
                    skipped.push(json!({ "module": module.name, "format": recipe.format.as_str(), "reason": problem }));
                    continue;
                }
                let fit = Fit::new(weight.data(), weight.shape(), *recipe)?;
                let found = measure(weight.data(), &fit, &Part::new(&part, 1, 2))?;
                match screen.json {
                    true => rows.push(document(module, &fit, &found)),
                    false => screen.print(&table.line(&line(module, &fit, &found)))?,
                }
            }
        }
        screen.finish();
        if screen.json {
            screen.document(&json!({ "rows": rows, "skipped": skipped }))?;
        }
        match failed {
            0 => Ok(()),
            1 => Err(Error::usage("1 module could not be read; it is named above, the others are done")),
            n => Err(Error::usage(format!("{n} modules could not be read; they are named above, the others are done"))),
        }
    }

    /// The modules that are meant: those that `--modules` finds; otherwise the linear layers, or every matrix where there are none.
    fn choose<'a>(&self, model: &'a Checkpoint) -> Result<Vec<&'a Module>> {
        let all = model.modules();
        let Some(regex) = &self.modules else {
            let any = all.iter().any(|module| module.linear);
            let chosen: Vec<_> =
                all.iter().filter(|module| if any { module.linear } else { module.is_matrix() }).collect();
            return match chosen.is_empty() {
                true => Err(Error::file(model.path(), "found no matrix, expected weights with two sizes")),
                false => Ok(chosen),
            };
        };
        let found: Vec<_> = all.iter().filter(|module| regex.is_match(&module.name)).collect();
        let matrices: Vec<_> = found.iter().copied().filter(|module| module.is_matrix()).collect();
        match (matrices.is_empty(), found.first()) {
            (false, _) => Ok(matrices),
            (true, Some(module)) => {
                let message = format!("found shape {:?}, expected a matrix with two sizes", module.shape);
                Err(Error::tensor(model.path(), &module.name, message))
            }
            (true, None) => {
                let some: Vec<&str> = all.iter().take(4).map(|module| module.name.as_str()).collect();
                let (count, some) = (all.len(), some.join(", "));
                Err(Error::usage(format!("--modules {regex} finds none of the {count} modules; there are {some} …")))
            }
        }
    }

    fn save(&self, model: &Checkpoint, out: &std::path::Path, format: Format, screen: &Screen) -> Result<()> {
        let Some(quant_type) = format.quant_type() else {
            return Err(Error::usage(format!("--save writes nf4 or fp4, found {format}")));
        };
        let Group::Block(blocksize) = self.block.0 else {
            return Err(Error::usage("--save needs a block of so many weights, as 64: bitsandbytes knows no rows"));
        };
        let scheme = Scheme { quant_type, blocksize, double_quant: self.double_quant };
        let chosen = |module: &Module| self.modules.as_ref().is_none_or(|regex| regex.is_match(&module.name));
        let written = prequantized::write(model, scheme, self.dtype, &chosen, out, screen)?;
        screen.finish();
        if screen.json {
            return screen.document(&json!({
                "out": out,
                "format": format.as_str(),
                "block": blocksize,
                "double_quant": self.double_quant,
                "modules": written.modules,
                "bits_per_weight": written.bits(),
                "bytes": written.bytes,
            }));
        }
        screen.print(&format!(
            "{} linear weights in {format}, {:.3} bits a weight; {} in all\n{}\n",
            written.modules,
            written.bits(),
            bytes(written.bytes),
            out.display()
        ))
    }
}

/// What a file of the user's makes of a weight.
fn as_stored(module: &Module, stored: &Module, bits: f64, found: &Measures) -> Value {
    let mut row = measures(found);
    for (key, value) in [
        ("module", json!(module.name)),
        ("shape", json!(module.matrix_shape())),
        ("format", json!("stored")),
        ("stored_as", json!(about(stored))),
        ("bits_per_weight", json!(bits)),
    ] {
        row[key] = value;
    }
    row
}

fn line_stored(module: &Module, stored: &Module, bits: f64, found: &Measures) -> Vec<String> {
    let first =
        [module.name.clone(), shape(&module.matrix_shape()), about(stored), "stored".to_owned(), format!("{bits:.3}")];
    first.into_iter().chain(numbers(found)).collect()
}

/// What JSON has no number for is null.
fn measures(found: &Measures) -> Value {
    json!({
        "rmse": found.rmse,
        "relative_rmse": found.relative_rmse,
        "max_abs": found.max_abs,
        "max_at": found.max_at,
        "median": found.median,
        "p95": found.p95,
        "sqnr_db": found.sqnr_db,
        "cosine": found.cosine,
        "bias": found.bias,
    })
}

fn document(module: &Module, fit: &Fit, found: &Measures) -> Value {
    let mut row = json!({
        "module": module.name,
        "shape": fit.shape(),
        "format": fit.recipe().format.as_str(),
        "block": fit.block(),
        "group": fit.recipe().group_text(),
        "double_quant": fit.recipe().double_quant,
        "bits_per_weight": fit.bits(),
    });
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), measures(found)) {
        row.extend(more);
    }
    row
}

fn titles(modules: &[&Module]) -> Table {
    let mut table = Table::new(&[
        "module",
        ">shape",
        "format",
        ">block",
        ">bits",
        ">rmse",
        ">relative",
        ">max",
        ">p95",
        ">SQNR dB",
        ">cosine",
    ]);
    for module in modules {
        table.widen(0, module.name.chars().count());
        table.widen(1, shape(&module.matrix_shape()).chars().count());
    }
    [(2, 15), (3, 6), (4, 6), (5, 9), (6, 9), (7, 9), (8, 9), (10, 9)]
        .into_iter()
        .for_each(|(column, width)| table.widen(column, width));
    table
}

fn line(module: &Module, fit: &Fit, found: &Measures) -> Vec<String> {
    let recipe = fit.recipe();
    let first = [
        module.name.clone(),
        shape(&fit.shape()),
        recipe.format.to_string(),
        recipe.group_text(),
        format!("{:.3}", fit.bits()),
    ];
    first.into_iter().chain(numbers(found)).collect()
}

fn numbers(found: &Measures) -> [String; 6] {
    [
        real(found.rmse, 4),
        real(found.relative_rmse, 4),
        real(found.max_abs, 4),
        real(found.p95, 4),
        format!("{:.2}", found.sqnr_db),
        format!("{:.6}", found.cosine),
    ]
}

/// How a weight is stored, in words.
fn about(module: &Module) -> String {
    module.about.clone().unwrap_or_else(|| module.dtype.to_string())
}
