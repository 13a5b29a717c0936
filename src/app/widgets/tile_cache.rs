//! Uploaded tiles: the newest of each place, kept while there is room.

use std::collections::HashMap;

use eframe::egui::{Context, TextureFilter, TextureHandle, TextureOptions, TextureWrapMode};

use super::levels::Levels;
use super::tiles::{Area, Stamp, Tile, TileId};

/// Bytes of tiles that a heatmap keeps beyond what it shows.
const BUDGET: usize = 64 << 20;

/// Cells are squares when they are larger than a pixel and blend when they are smaller.
const OPTIONS: TextureOptions = TextureOptions {
    magnification: TextureFilter::Nearest,
    minification: TextureFilter::Linear,
    wrap_mode: TextureWrapMode::ClampToEdge,
    mipmap_mode: None,
};

struct Cached {
    texture: TextureHandle,
    stamp: Stamp,
    seen: u64,
}

/// The textures of one heatmap.
#[derive(Default)]
pub struct TileCache {
    tiles: HashMap<TileId, Cached>,
    frame: u64,
}

/// One texture to draw.
pub struct Drawn<'a> {
    /// Its place.
    pub id: TileId,
    /// The texture.
    pub texture: &'a TextureHandle,
    /// What it shows.
    pub stamp: Stamp,
}

impl TileCache {
    /// Uploads a tile, unless a newer one of the same place and subject is there already.
    pub fn insert(&mut self, ctx: &Context, tile: Tile) {
        match self.tiles.get_mut(&tile.id) {
            Some(old) if old.stamp.subject == tile.stamp.subject && old.stamp.version >= tile.stamp.version => {}
            Some(old) => {
                old.texture.set(tile.image, OPTIONS);
                old.stamp = tile.stamp;
            }
            None => {
                let name = format!("tile {}/{}/{}", tile.id.level, tile.id.row, tile.id.col);
                let texture = ctx.load_texture(name, tile.image, OPTIONS);
                self.tiles.insert(tile.id, Cached { texture, stamp: tile.stamp, seen: self.frame });
            }
        }
    }

    /// True when the tile is there in exactly this state.
    pub fn has(&self, id: TileId, stamp: Stamp) -> bool {
        self.tiles.get(&id).is_some_and(|t| t.stamp == stamp)
    }

    /// True when the tile is there in some state of this subject.
    pub fn has_subject(&self, id: TileId, subject: u64) -> bool {
        self.tiles.get(&id).is_some_and(|t| t.stamp.subject == subject)
    }

    /// True when nothing is there at all.
    pub fn is_empty(&self) -> bool {
        self.tiles.is_empty()
    }

    /// Bytes of all textures.
    pub fn bytes(&self) -> usize {
        self.tiles.values().map(|t| t.texture.byte_size()).sum()
    }

    /// What to draw for `wanted` tiles, in this order: just those when all are there in the state asked for; otherwise also everything else
    /// that meets the area, oldest and coarsest below, so that there is always the last good picture.
    pub fn draw(&mut self, wanted: &[TileId], stamp: Stamp, levels: &Levels, area: &Area) -> Vec<Drawn<'_>> {
        self.frame += 1;
        let complete = wanted.iter().all(|&id| self.has(id, stamp));
        let mut order: Vec<TileId> = if complete {
            wanted.to_vec()
        } else {
            self.tiles.keys().copied().filter(|id| id.area(levels).meets(area)).collect()
        };
        for id in &order {
            if let Some(tile) = self.tiles.get_mut(id) {
                tile.seen = self.frame;
            }
        }
        order.sort_by_key(|id| {
            let state = self.tiles.get(id).map(|t| (t.stamp.subject == stamp.subject, t.stamp.version));
            (state, wanted.contains(id), std::cmp::Reverse(id.level), *id)
        });
        let drawn = |id| self.tiles.get(&id).map(|t| Drawn { id, texture: &t.texture, stamp: t.stamp });
        order.into_iter().filter_map(drawn).collect()
    }

    /// Drops what was not drawn last, longest unseen first, until there is room. Dropping a handle frees the texture.
    pub fn evict(&mut self) {
        let mut unseen: Vec<_> =
            self.tiles.iter().filter(|(_, t)| t.seen < self.frame).map(|(id, t)| (t.seen, *id)).collect();
        let mut bytes = self.bytes();
        unseen.sort_unstable();
        for (_, id) in unseen {
            if bytes <= BUDGET {
                break;
            }
            if let Some(tile) = self.tiles.remove(&id) {
                bytes -= tile.texture.byte_size();
            }
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.tiles.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eframe::egui::{Color32, ColorImage, Id};

    fn stamp(subject: u64, version: u64) -> Stamp {
        Stamp { map: Id::NULL, subject, version }
    }

    fn tile(id: TileId, stamp: Stamp, side: usize) -> Tile {
        Tile { id, stamp, image: ColorImage::filled([side, side], Color32::RED) }
    }

    fn at(level: usize, row: usize, col: usize) -> TileId {
        TileId { level, row, col }
    }

    #[test]
    fn the_last_good_picture_stays_until_the_next_is_ready() {
        let (ctx, levels) = (Context::default(), Levels::of([512, 512]));
        let area = Area { rows: [0.0, 512.0], cols: [0.0, 256.0] };
        let wanted = [at(0, 0, 0), at(0, 1, 0)];
        let mut cache = TileCache::default();
        cache.insert(&ctx, tile(at(1, 0, 0), stamp(1, 1), 512));
        cache.insert(&ctx, tile(at(0, 1, 0), stamp(1, 1), 512));
        let order = |cache: &mut TileCache, version| -> Vec<TileId> {
            cache.draw(&wanted, stamp(1, version), &levels, &area).iter().map(|d| d.id).collect()
        };
        // The coarse tile lies under the only fine one; with the second fine one it is no longer needed.
        assert_eq!(order(&mut cache, 1), [at(1, 0, 0), at(0, 1, 0)]);
        cache.insert(&ctx, tile(at(0, 0, 0), stamp(1, 1), 512));
        assert_eq!(order(&mut cache, 1), wanted);
        // A new version: old tiles are drawn until theirs arrive, newer ones above older ones, and nothing goes back.
        assert_eq!(order(&mut cache, 2).len(), 3);
        cache.insert(&ctx, tile(at(0, 0, 0), stamp(1, 2), 512));
        assert_eq!(order(&mut cache, 2).last(), Some(&at(0, 0, 0)));
        cache.insert(&ctx, tile(at(0, 0, 0), stamp(1, 1), 512));
        assert!(cache.has(at(0, 0, 0), stamp(1, 2)));
        // Another subject replaces whatever its version.
        cache.insert(&ctx, tile(at(0, 0, 0), stamp(7, 1), 512));
        assert!(cache.has(at(0, 0, 0), stamp(7, 1)));
    }

    #[test]
    fn unseen_tiles_go_first_and_only_when_there_is_no_room() {
        let (ctx, levels) = (Context::default(), Levels::of([1 << 14, 1 << 14]));
        let mut cache = TileCache::default();
        for row in 0..32 {
            for col in 0..4 {
                cache.insert(&ctx, tile(at(0, row, col), stamp(1, 1), 512));
            }
        }
        let wanted = [at(0, 0, 0), at(0, 31, 3)];
        assert_eq!(cache.bytes(), 128 << 20);
        let area = Area { rows: [0.0, 1.0], cols: [0.0, 1.0] };
        assert_eq!(cache.draw(&wanted, stamp(1, 1), &levels, &area).len(), 2);
        cache.evict();
        assert!(cache.bytes() <= BUDGET && cache.bytes() > BUDGET - (2 << 20));
        assert!(wanted.iter().all(|&id| cache.has(id, stamp(1, 1))));
        cache.clear();
        assert!(cache.is_empty());
    }
}
