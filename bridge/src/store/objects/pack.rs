//! Packs as files.

use super::StoreError;
use super::disk::{At as _, sync_dir};
use starling_core::git::object::Kind;
use starling_core::git::pack::{PackWriter, write_index};
use starling_core::id::ObjectId;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// Packs (their `.pack` files) worth rolling into one: the smallest, as long as
/// each is no larger than twice all smaller ones together. So every object is
/// written again only as often as the repository doubles.
pub(super) fn small(objects: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let dir = objects.join("pack");
    let mut packs = Vec::new();
    for file in fs::read_dir(&dir).at(&dir)? {
        let path = file.at(&dir)?.path();
        let whole = path.extension().is_some_and(|e| e == "pack")
            && path.with_extension("idx").exists()
            && !path.with_extension("keep").exists();
        if whole {
            packs.push((fs::metadata(&path).at(&path)?.len(), path));
        }
    }
    packs.sort();
    let mut sum = 0;
    let mut count = 0;
    for (i, (size, _)) in packs.iter().enumerate() {
        if i == 0 || *size <= 2 * sum {
            count = i + 1;
        }
        sum += size;
    }
    packs.truncate(count);
    Ok(packs.into_iter().map(|(_, path)| path).collect())
}

/// The objects of a pack, from its index.
pub(super) fn ids(pack: &Path) -> Result<Vec<ObjectId>, StoreError> {
    let index = pack.with_extension("idx");
    let damaged = |what: String| StoreError::Damaged {
        path: index.clone(),
        what,
    };
    let file = gix::odb::pack::index::File::at(&index, gix::hash::Kind::Sha1)
        .map_err(|e| damaged(e.to_string()))?;
    file.iter()
        .map(|e| ObjectId::from_slice(e.oid.as_slice()).ok_or_else(|| damaged("not SHA-1".into())))
        .collect()
}

/// Writes a pack of these objects and its index, and installs it. Where it is.
pub(super) fn write(
    objects: &Path,
    ids: &BTreeSet<ObjectId>,
    read: impl Fn(&ObjectId) -> Option<(Kind, Vec<u8>)>,
) -> Result<PathBuf, StoreError> {
    let dir = objects.join("pack");
    let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let (mut writer, head) = PackWriter::new(count, true);
    let temp = tempfile::Builder::new()
        .prefix("tmp_pack_")
        .suffix(".pack")
        .tempfile_in(&dir)
        .at(&dir)?;
    let mut file = BufWriter::new(temp.as_file());
    file.write_all(&head).at(temp.path())?;
    for id in ids {
        let (kind, bytes) = read(id).ok_or(StoreError::NoObject(*id))?;
        file.write_all(&writer.object(kind, &bytes))
            .at(temp.path())?;
    }
    let (checksum, mut entries) = writer.finish();
    // The content must be what its name says: a damaged loose object ends here, not in a pack.
    if let Some(e) = entries.iter().find(|e| !ids.contains(&e.id)) {
        return Err(StoreError::Damaged {
            path: objects.to_owned(),
            what: format!("an object reads as {}", e.id),
        });
    }
    file.write_all(&checksum).at(temp.path())?;
    file.flush().at(temp.path())?;
    drop(file);
    write_idx(temp.path(), &write_index(&mut entries, &checksum))?;
    temp.as_file().sync_all().at(temp.path())?;
    let temp = temp.into_temp_path();
    let installed = install(objects, &temp, &checksum)?;
    // Renamed: there is nothing left to remove.
    let _ = temp.keep();
    Ok(installed)
}

/// Writes the index of a pack beside it; it lasts when this returns.
pub(super) fn write_idx(pack: &Path, index: &[u8]) -> Result<(), StoreError> {
    let path = pack.with_extension("idx");
    let mut file = fs::File::create(&path).at(&path)?;
    file.write_all(index)
        .and_then(|()| file.sync_all())
        .at(&path)
}

/// Renames a pack and its index, which last already, to their place.
pub(super) fn install(
    objects: &Path,
    pack: &Path,
    checksum: &[u8; 20],
) -> Result<PathBuf, StoreError> {
    let dir = objects.join("pack");
    let to = dir.join(format!("pack-{}.pack", ObjectId(*checksum)));
    // git knows a pack by its index: that comes last.
    for extension in ["pack", "idx"] {
        let (from, to) = (pack.with_extension(extension), to.with_extension(extension));
        let mut permissions = fs::metadata(&from).at(&from)?.permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&from, permissions).at(&from)?;
        fs::rename(&from, &to).at(&to)?;
    }
    sync_dir(&dir)?;
    Ok(to)
}

/// Removes a pack whose objects are elsewhere.
pub(super) fn remove(pack: &Path) -> Result<(), StoreError> {
    // The index first, so that nobody looks for the pack.
    for extension in ["idx", "rev", "pack"] {
        let path = pack.with_extension(extension);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).at(&path),
            _ => {}
        }
    }
    Ok(())
}
