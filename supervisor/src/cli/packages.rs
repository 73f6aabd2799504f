//! `mortise new`, `check`, `pack` and `install`: from an empty folder to a registered package.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use indicatif::ProgressBar;
use mortise_control::ModuleName;
use semver::Version;
use serde::Serialize;
use serde::de::IgnoredAny;
use tokio::fs::File;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio_stream::Stream;

use super::arguments::{self, New};
use super::client::Payload;
use super::fault::{Done, Fault};
use super::operations;
use super::progress;
use super::screen::{Paint, visible};
use super::session::{Session, Wait};
use super::units;
use crate::api::{ApiError, Blame, ErrorCode, ModuleStatus, Operation, OperationState, Request};
use crate::manifest::{self, Finding, Manifest};
use crate::package::{self, Packed};
use crate::scaffold::{self, Kind, ScaffoldError, SdkSource};

/// How much of a package is read at a time.
const CHUNK: usize = 64 * 1024;

/// How long the supervisor may take to unpack what it was sent.
const UNPACK: Duration = Duration::from_secs(600);

/// `mortise check --json`.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    sound: bool,
    file: String,
    findings: &'a [Finding],
}

/// `mortise pack --json`.
#[derive(Debug, Serialize)]
struct PackedFile<'a> {
    module: &'a ModuleName,
    version: &'a Version,
    file: &'a Path,
    digest: String,
    files: u32,
    bytes: u64,
}

/// `mortise new --json`.
#[derive(Debug, Serialize)]
struct Created {
    folder: PathBuf,
    files: Vec<&'static str>,
}

/// `mortise new`.
pub fn new(session: &Session, new: &New) -> Done {
    let kind = match new.kind {
        arguments::Kind::Http => Kind::Http,
        arguments::Kind::Sdk => Kind::Sdk(sdk_source(new.sdk_path.as_deref())?),
    };
    let folder = scaffold::create(&new.parent, &new.name, &kind).map_err(|error| not_made(&error))?;
    if session.screen.json {
        let files = scaffold::files(&new.name, &kind).into_iter().map(|it| it.path).collect();
        return session.screen.json(&Created { folder, files });
    }
    let (name, shown) = (&new.name, folder.display());
    let build = match kind {
        Kind::Sdk(_) => format!("  cd {shown} && cargo test && cargo build --release\n"),
        Kind::Http => format!("  cd {shown}\n"),
    };
    session
        .screen
        .print(&format!("made {shown}\n{build}  mortise install . && mortise start {name} && mortise publish {name}\n"))
}

/// The folder that was named, or that of the checkout this program was built from, or else the registry.
fn sdk_source(named: Option<&Path>) -> Result<SdkSource, Fault> {
    if let Some(folder) = named {
        // The new module lies elsewhere: a relative path would mean another folder there.
        return folder.canonicalize().map(SdkSource::Folder).map_err(|error| Fault::file(folder, &error));
    }
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../module-runtime");
    match built_from.canonicalize() {
        Ok(folder) if scaffold::is_sdk(&folder) => Ok(SdkSource::Folder(folder)),
        Ok(_) | Err(_) => Ok(SdkSource::Registry),
    }
}

fn not_made(error: &ScaffoldError) -> Fault {
    let (code, remedy) = match error {
        ScaffoldError::Exists(_) => (ErrorCode::Conflict, "Choose another name, or another folder with --parent."),
        ScaffoldError::Write { .. } => (ErrorCode::Storage, "Look at the folder's permissions and the disk."),
        ScaffoldError::NoSdk(_) => (ErrorCode::Invalid, "Name the folder module-runtime of a Mortise checkout."),
    };
    ApiError::new(code, Blame::Caller, error.to_string()).remedy(remedy).into()
}

fn manifest_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(manifest::FILE_NAME) } else { path.to_owned() }
}

/// `mortise check`.
pub fn check(session: &Session, path: &Path, paint: Paint) -> Done {
    let file = manifest_of(path);
    let text = std::fs::read(&file).map_err(|error| Fault::file(&file, &error))?;
    let shown = file.display().to_string();
    let report = match Manifest::parse_bytes(&text, &shown) {
        Ok(_) if session.screen.json => {
            return session.screen.json(&Checked { sound: true, file: shown, findings: &[] });
        }
        Ok(manifest) => {
            return session.screen.line(&format!("{shown}: {} {} is sound", manifest.name, manifest.version));
        }
        Err(report) => report,
    };
    if session.screen.json {
        session.screen.json(&Checked { sound: false, file: shown.clone(), findings: &report.findings })?;
    } else {
        let text = if paint.is_coloured() { report.coloured() } else { report.to_string() };
        let _ = writeln!(io::stderr(), "{}\n", text.trim_end());
    }
    let count = match report.findings.len() {
        1 => "one mistake".to_owned(),
        count => format!("{count} mistakes"),
    };
    Err(ApiError::new(ErrorCode::PackageRefused, Blame::Module, format!("{count} in {shown}")).into())
}

/// `mortise pack`.
pub async fn pack(session: &Session, dir: &Path, output: Option<&Path>) -> Done {
    let out = match output {
        Some(out) => out.to_owned(),
        None => {
            let file = manifest_of(dir);
            let text = std::fs::read(&file).map_err(|error| Fault::file(&file, &error))?;
            let manifest = Manifest::parse_bytes(&text, &file.display().to_string())
                .map_err(|report| ApiError::from(package::PackageError::Manifest(report)))?;
            PathBuf::from(format!("{}-{}.mortise", manifest.name, manifest.version))
        }
    };
    let packed = made(dir.to_owned(), out.clone()).await?;
    let manifest = &packed.manifest;
    if session.screen.json {
        return session.screen.json(&PackedFile {
            module: &manifest.name,
            version: &manifest.version,
            file: &out,
            digest: packed.digest.to_string(),
            files: packed.files,
            bytes: packed.package_bytes,
        });
    }
    session.screen.print(&format!(
        "packed {} {} into {}: {} files, {} packed into {}\nsha256 {}\n",
        manifest.name,
        manifest.version,
        visible(&out.display().to_string()),
        packed.files,
        units::bytes(packed.content_bytes),
        units::bytes(packed.package_bytes),
        packed.digest
    ))
}

async fn made(dir: PathBuf, out: PathBuf) -> Result<Packed, Fault> {
    let _spinner = progress::spinner(format!("packing {}", dir.display()));
    let packed = tokio::task::spawn_blocking(move || package::pack(&dir, &out)).await.map_err(|error| {
        Fault::from(ApiError::new(ErrorCode::Internal, Blame::Mortise, format!("packing failed: {error}")))
    })?;
    packed.map_err(|error| ApiError::from(error).into())
}

/// `mortise install`.
pub async fn install(session: &Session, path: &Path) -> Done {
    // Whether there is anybody who will take it is known before a large folder is packed and sent.
    let _: IgnoredAny = session.client.get(&session.of_tenant("/v1/operations")).await?;
    if !path.is_dir() {
        return send(session, path).await;
    }
    let folder = tempfile::tempdir().map_err(|error| Fault::file(&std::env::temp_dir(), &error))?;
    let file = folder.path().join("package.mortise");
    made(path.to_owned(), file.clone()).await?;
    send(session, &file).await
}

async fn send(session: &Session, file: &Path) -> Done {
    let wrong = |error: io::Error| Fault::file(file, &error);
    let opened = File::open(file).await.map_err(wrong)?;
    let length = opened.metadata().await.map_err(wrong)?.len();
    let bar = progress::bytes(length, "sending");
    let path = format!("{}&id={}", session.of_tenant("/v1/packages"), operations::fresh_id()?);
    let body = Sending { file: opened, bar: bar.clone() };
    let operation: Operation = session.client.upload(&path, body.payload(), UNPACK).await?;
    drop(bar);
    let operation = match session.wait {
        Wait::Accepted => operation,
        Wait::Ended => operations::ended(session, operation).await?,
    };
    if session.screen.json || operation.state != OperationState::Done {
        return operations::report(session, &operation);
    }
    session.screen.line(&installed(session, &operation.request).await?)
}

/// What was installed, by name: the operation only knows the digest.
async fn installed(session: &Session, request: &Request) -> Result<String, Fault> {
    let Request::Install { digest, .. } = request else { return Ok(String::new()) };
    let modules: Vec<ModuleStatus> = session.client.get(&session.of_tenant("/v1/modules")).await?;
    let versions = modules.iter().flat_map(|module| module.installed.iter().map(move |it| (module, it)));
    let found = versions.into_iter().find(|(_, it)| it.digest == *digest);
    Ok(found.map_or_else(
        || format!("installed sha256 {digest}"),
        |(module, it)| format!("installed {} {}  sha256 {digest}", module.module, it.version),
    ))
}

/// A file on its way out.
struct Sending {
    file: File,
    bar: ProgressBar,
}

impl Sending {
    fn payload(self) -> Payload {
        StreamBody::new(self).boxed()
    }
}

impl Stream for Sending {
    type Item = io::Result<Frame<Bytes>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut chunk = vec![0; CHUNK];
        let mut buffer = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.file).poll_read(context, &mut buffer))?;
        let length = buffer.filled().len();
        if length == 0 {
            return Poll::Ready(None);
        }
        self.bar.inc(length as u64);
        chunk.truncate(length);
        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
    }
}
