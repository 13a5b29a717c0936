//! Every module of a model on maps: a map for each stack of blocks (encoder, decoder, vision), block × projection. The experts of a
//! mixture share a row for each of their projections, until they are unfolded.

use eframe::egui::{Ui, vec2};

use super::names::{Block, Stacks};
use crate::app::widgets::map::{Cell, ModuleMap};
use crate::checkpoint::expert_of;
use crate::figure::ColorMap;

/// The map of one stack.
#[derive(Clone, Debug, Default, PartialEq)]
struct Part {
    /// What the stack is called; empty where there is one alone.
    title: String,
    blocks: Vec<String>,
    projections: Vec<String>,
    /// By block and projection: places among the modules; several where experts are folded.
    places: Vec<Vec<usize>>,
}

/// Where the modules of a model stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Maps {
    /// Name and block of every module.
    modules: Vec<(String, Option<usize>)>,
    parts: Vec<Part>,
    has_experts: bool,
    unfolded: bool,
}

/// What the maps show.
pub struct Shown<'a> {
    /// What they are maps of.
    pub title: &'a str,
    /// What the numbers are.
    pub quantity: &'a str,
    /// What is known of a module, by its place.
    pub cell: &'a dyn Fn(usize) -> Cell,
    /// Whether it is selected.
    pub selected: &'a dyn Fn(usize) -> bool,
}

impl Maps {
    /// Of these modules, each with the number of its block.
    pub fn of<'a>(modules: impl IntoIterator<Item = (&'a str, Option<usize>)>) -> Self {
        let modules: Vec<_> = modules.into_iter().map(|(name, layer)| (name.to_owned(), layer)).collect();
        let has_experts = modules.iter().any(|(name, _)| expert_of(name).is_some());
        let mut maps = Self { modules, has_experts, ..Self::default() };
        maps.parts = maps.lay_out();
        maps
    }

    /// True where no module stands in a numbered block.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// True for a mixture of experts.
    pub fn has_experts(&self) -> bool {
        self.has_experts
    }

    /// Places of all modules on the maps, in their order.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().flat_map(|part| part.places.iter().flatten().copied())
    }

    fn lay_out(&self) -> Vec<Part> {
        let known = || self.modules.iter().filter_map(|(name, layer)| Some((name.as_str(), (*layer)?)));
        let stacks = Stacks::of_names(known());
        let blocks: Vec<Option<Block>> =
            self.modules.iter().map(|(name, layer)| stacks.block_of(name, (*layer)?)).collect();
        let mut parts = Vec::new();
        for stack in 0..stacks.count() {
            let mut layers: Vec<usize> =
                blocks.iter().flatten().filter(|(of, _)| *of == stack).map(|(_, layer)| *layer).collect();
            layers.sort_unstable();
            layers.dedup();
            let mut rows: Vec<(String, usize)> = Vec::new();
            let mut found = Vec::new();
            for (at, block) in blocks.iter().enumerate() {
                let Some((_, layer)) = block.filter(|(of, _)| *of == stack) else { continue };
                let leaf = row(&self.modules[at].0, layer, self.unfolded);
                let p = rows.iter().position(|(known, _)| *known == leaf).unwrap_or_else(|| {
                    rows.push((leaf, 0));
                    rows.len() - 1
                });
                if let Ok(b) = layers.binary_search(&layer) {
                    found.push((b, p, at));
                }
            }
            let mut places = vec![Vec::new(); layers.len() * rows.len()];
            for (b, p, at) in found {
                let cell = &mut places[b * rows.len() + p];
                cell.push(at);
                rows[p].1 = rows[p].1.max(cell.len());
            }
            let projections =
                rows.into_iter().map(|(name, most)| if most > 1 { format!("{name} × {most}") } else { name }).collect();
            let title = if stacks.is_one() { String::new() } else { stacks.called(stack).to_owned() };
            parts.push(Part { title, blocks: layers.iter().map(usize::to_string).collect(), projections, places });
        }
        parts
    }

    /// Offers to unfold experts, where there are any.
    pub fn fold(&mut self, ui: &mut Ui) {
        if !self.has_experts {
            return;
        }
        let tip = "A row for each expert, in place of the median of all of them";
        if ui.toggle_value(&mut self.unfolded, "each expert").on_hover_text(tip).clicked() {
            self.parts = self.lay_out();
        }
    }

    /// Paints them one below the other into the room there is; returns what was chosen.
    pub fn ui(&self, ui: &mut Ui, shown: &Shown<'_>) -> Option<Vec<usize>> {
        let cells: Vec<Vec<Cell>> =
            self.parts.iter().map(|part| part.places.iter().map(|of| together(of, shown.cell)).collect()).collect();
        // Colours mean the same on all of them.
        let values = cells.iter().flatten().filter_map(|cell| match cell {
            Cell::Value(value) if value.is_finite() => Some(value.abs()),
            _ => None,
        });
        let most = values.fold(0.0, f64::max);
        let rows: Vec<usize> = self.parts.iter().map(|part| part.projections.len() + 3).collect();
        let mut chosen = None;
        for (at, part) in self.parts.iter().enumerate() {
            let last = at + 1 == self.parts.len();
            let place = |b: usize, p: usize| b * part.projections.len() + p;
            let selected = |b: usize, p: usize| part.places[place(b, p)].iter().any(|&at| (shown.selected)(at));
            let cell = |b: usize, p: usize| cells[at][place(b, p)];
            let title = match part.title.as_str() {
                "" => shown.title.to_owned(),
                stack => format!("{}: {stack}", shown.title),
            };
            let map = ModuleMap {
                title: &title,
                stack: &part.title,
                blocks: &part.blocks,
                projections: &part.projections,
                cell: &cell,
                selected: &selected,
                quantity: shown.quantity,
                map: ColorMap::Viridis,
                most: Some(most),
                legend: last,
            };
            let room = ui.available_size();
            let share = rows[at] as f32 / rows[at..].iter().sum::<usize>() as f32;
            let clicked = ui.allocate_ui(vec2(room.x, room.y * share), |ui| map.ui(ui).chosen).inner;
            if let Some((b, p)) = clicked {
                chosen = Some(part.places[place(b, p)].clone());
            }
        }
        chosen
    }
}

/// What is known of several modules: the median, once all of them are known.
fn together(of: &[usize], cell: &dyn Fn(usize) -> Cell) -> Cell {
    let cells: Vec<Cell> = of.iter().map(|&at| cell(at)).collect();
    let mut values: Vec<f64> = cells
        .iter()
        .filter_map(|cell| match cell {
            Cell::Value(value) => Some(*value),
            _ => None,
        })
        .collect();
    if cells.is_empty() {
        return Cell::Absent;
    }
    if cells.contains(&Cell::Pending) {
        return Cell::Pending;
    }
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).map_or(Cell::Unknown, |&value| Cell::Value(value))
}

/// The row of a module: what stands behind the block's number, without the number of an expert where those are folded.
fn row(name: &str, layer: usize, unfolded: bool) -> String {
    let leaf = leaf(name, layer);
    match expert_of(name).filter(|_| !unfolded) {
        Some(number) => leaf.replacen(&format!("experts.{number}."), "experts.", 1),
        None => leaf.to_owned(),
    }
}

/// What stands behind the block's number: `q_proj` of `model.layers.3.self_attn.q_proj`; more where names are nested deeper.
fn leaf(name: &str, layer: usize) -> &str {
    let number = format!(".{layer}.");
    let rest = name.find(&number).map_or(name, |at| &name[at + number.len()..]);
    match rest.split_once('.') {
        Some((_, leaf)) if !leaf.is_empty() => leaf,
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_tell_projections_apart() {
        assert_eq!(leaf("model.layers.3.self_attn.q_proj", 3), "q_proj");
        assert_eq!(leaf("transformer.h.0.attn.c_proj", 0), "c_proj");
        assert_eq!(leaf("model.layers.1.mlp.experts.0.up_proj", 1), "experts.0.up_proj");
        assert_eq!(leaf("blocks.2.fc", 2), "fc");
    }

    #[test]
    fn stacks_have_maps_of_their_own_and_experts_share_a_row() {
        let t5 = [
            ("encoder.block.0.layer.0.SelfAttention.q", Some(0)),
            ("decoder.block.0.layer.0.SelfAttention.q", Some(0)),
        ];
        let maps = Maps::of(t5);
        assert_eq!(maps.parts.iter().map(|part| part.title.as_str()).collect::<Vec<_>>(), ["encoder", "decoder"]);
        assert!(maps.parts.iter().all(|part| part.blocks == ["0"]) && !maps.has_experts);
        let names = ["self_attn.q_proj", "mlp.experts.0.up_proj", "mlp.experts.1.up_proj", "mlp.experts.2.up_proj"];
        let names = names.map(|name| format!("model.layers.0.{name}"));
        let mut maps = Maps::of(names.iter().map(|name| (name.as_str(), Some(0))).chain([("lm_head", None)]));
        assert_eq!(maps.parts[0].projections, ["q_proj", "experts.up_proj × 3"]);
        assert_eq!(maps.parts[0].places, [vec![0], vec![1, 2, 3]]);
        let ranks = [8.0, 3.0, 5.0, 4.0];
        assert_eq!(together(&[1, 2, 3], &|at| Cell::Value(ranks[at])), Cell::Value(4.0), "the median");
        assert_eq!(together(&[1, 2], &|at| if at == 1 { Cell::Pending } else { Cell::Value(1.0) }), Cell::Pending);
        maps.unfolded = true;
        assert_eq!(
            maps.lay_out()[0].projections,
            ["q_proj", "experts.0.up_proj", "experts.1.up_proj", "experts.2.up_proj"]
        );
    }
}
