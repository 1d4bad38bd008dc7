//! Files that are where they should be after a power cut.

use super::StoreError;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use starling_core::git::object::Kind;
use starling_core::git::pack::LEVEL;
use starling_core::id::ObjectId;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Names the path in an error.
pub(super) trait At<T> {
    fn at(self, path: &Path) -> Result<T, StoreError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, StoreError> {
        self.map_err(|e| StoreError::Io {
            path: path.to_owned(),
            kind: e.kind(),
            text: e.to_string(),
        })
    }
}

/// Makes what was created, renamed or removed in a directory last.
pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    // Windows knows no handle to a directory that could be flushed; NTFS journals names itself.
    if cfg!(windows) {
        return Ok(());
    }
    File::open(path).and_then(|d| d.sync_all()).at(path)
}

/// Makes a file's content last.
pub(super) fn sync_file(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|f| f.sync_all()).at(path)
}

/// Replaces a file, whole or not at all; with `last`, for good when this returns.
pub(super) fn replace(path: &Path, bytes: &[u8], last: bool) -> Result<(), StoreError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix("tmp_obj_")
        .tempfile_in(dir)
        .at(dir)?;
    file.write_all(bytes).at(path)?;
    if last {
        file.as_file().sync_all().at(path)?;
    }
    file.persist(path).map_err(|e| e.error).at(path)?;
    if last {
        sync_dir(dir)?;
    }
    Ok(())
}

/// Where a loose object lies.
pub(super) fn loose_path(objects: &Path, id: &ObjectId) -> PathBuf {
    let hex = id.to_hex();
    let (dir, name) = hex.split_at(2);
    objects.join(dir).join(name)
}

/// Writes a loose object. It may be lost in a power cut: the journal has it.
pub(super) fn write_loose(
    objects: &Path,
    id: &ObjectId,
    kind: Kind,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let path = loose_path(objects, id);
    let mut deflate = ZlibEncoder::new(
        Vec::with_capacity(bytes.len() / 2 + 64),
        Compression::new(LEVEL),
    );
    let write = |d: &mut ZlibEncoder<Vec<u8>>| {
        write!(d, "{kind} {}\0", bytes.len())?;
        d.write_all(bytes)
    };
    write(&mut deflate).at(&path)?;
    let compressed = deflate.finish().at(&path)?;
    match replace(&path, &compressed, false) {
        Err(StoreError::Io {
            kind: io::ErrorKind::NotFound,
            ..
        }) => {
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir).at(dir)?;
            }
            replace(&path, &compressed, false)
        }
        other => other,
    }
}

/// All loose objects. With `clean`, left-over temporary files are removed on the way: not while
/// somebody writes, whose they could be.
pub(super) fn loose_objects(objects: &Path, clean: bool) -> Result<Vec<ObjectId>, StoreError> {
    let mut out = Vec::new();
    for dir in fs::read_dir(objects).at(objects)? {
        let dir = dir.at(objects)?;
        let prefix = dir.file_name().to_string_lossy().into_owned();
        if prefix.len() != 2 || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            continue;
        }
        let files = match fs::read_dir(dir.path()) {
            // Everything in it was packed in this moment.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other.at(&dir.path())?,
        };
        for file in files {
            let file = file.at(&dir.path())?;
            let name = file.file_name().to_string_lossy().into_owned();
            if name.starts_with("tmp_obj_") {
                if !clean {
                    continue;
                }
                let _ = fs::remove_file(file.path());
            } else if let Ok(id) = format!("{prefix}{name}").parse() {
                out.push(id);
            }
        }
    }
    Ok(out)
}

/// A file that is read at offsets.
pub(super) struct PackFile(pub(super) File);

impl starling_core::git::pack::ReadAt for PackFile {
    #[cfg(unix)]
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, buf, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.0, buf, offset)
    }
}
