/** Files and LevelDB stores below one data folder; relative paths are relative to it. */
import { type FileHandle, mkdir, open, readdir, rm, statfs } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { Level } from "level";
import { AnantaError } from "../../core/errors.js";
import type { Disk, DiskFile, Store } from "../env.js";

export function createNodeDisk(dataFolder: string): Disk {
  const at = (path: string): string => resolve(dataFolder, path);
  return {
    openStore: (folder) => openStore(at(folder)),
    openFile: (path) => openFile(at(path)),
    makeFolder: (path) => makeFolder(at(path)),
    list: async (folder) => {
      try {
        return await readdir(at(folder));
      } catch (caught) {
        if (systemCode(caught) === "ENOENT") return [];
        throw failed("list", at(folder), caught);
      }
    },
    remove: (path) => rm(at(path), { recursive: true, force: true }).catch(rethrow("remove", at(path))),
    freeBytes: (path) => freeBytes(at(path)),
  };
}

async function openStore(folder: string): Promise<Store> {
  await makeFolder(folder);
  const level = new Level<Uint8Array, Uint8Array>(folder, { keyEncoding: "view", valueEncoding: "view" });
  try {
    await level.open();
    return level;
  } catch (caught) {
    const cause = caught instanceof Error && caught.cause !== undefined ? caught.cause : caught;
    const reason = cause instanceof Error ? cause.message : String(cause);
    const code = systemCode(cause);
    if (code === "LEVEL_LOCKED") {
      throw new AnantaError(
        "STORAGE_LOCKED",
        `the store in ${folder} is in use by another process`,
        { folder },
        { cause },
      );
    }
    // A file of the store that is missing is damage; no permission, or a disk that does not answer, is not.
    if (code === "LEVEL_IO_ERROR" && !reason.includes("No such file")) {
      throw new AnantaError("STORAGE_FAILED", `cannot open the store in ${folder}: ${reason}`, { folder }, { cause });
    }
    throw new AnantaError(
      "STORAGE_DAMAGED",
      `the store in ${folder} cannot be opened: ${reason}`,
      { folder },
      { cause },
    );
  }
}

async function openFile(path: string): Promise<DiskFile> {
  try {
    await makeFolder(dirname(path));
    let handle: FileHandle;
    try {
      handle = await open(path, "r+");
    } catch (caught) {
      if (systemCode(caught) !== "ENOENT") throw caught;
      handle = await open(path, "wx+");
      await handle.datasync();
      await syncFolder(dirname(path));
    }
    return diskFile(path, handle);
  } catch (caught) {
    throw failed("open", path, caught);
  }
}

function diskFile(path: string, handle: FileHandle): DiskFile {
  return {
    size: () => handle.stat().then(({ size }) => size, rethrow("read", path)),
    readAt: async (offset, byteCount) => {
      const bytes = new Uint8Array(byteCount);
      let done = 0;
      try {
        while (done < byteCount) {
          const { bytesRead } = await handle.read(bytes, done, byteCount - done, offset + done);
          if (bytesRead === 0) break;
          done += bytesRead;
        }
      } catch (caught) {
        throw failed("read", path, caught);
      }
      return bytes.subarray(0, done);
    },
    writeAt: async (offset, bytes) => {
      try {
        for (let done = 0; done < bytes.length;) {
          const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, offset + done);
          done += bytesWritten;
        }
      } catch (caught) {
        throw failed("write", path, caught);
      }
    },
    sync: () => handle.datasync().catch(rethrow("sync", path)),
    close: () => handle.close().catch(rethrow("close", path)),
  };
}

/** Makes the folder and its parents; the entries of those it made are durable. */
async function makeFolder(path: string): Promise<void> {
  try {
    const first = await mkdir(path, { recursive: true }); // the topmost folder that did not exist
    if (first === undefined) return;
    for (let made = path; made.length >= first.length; made = dirname(made)) await syncFolder(dirname(made));
  } catch (caught) {
    throw failed("make", path, caught);
  }
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function freeBytes(path: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  } catch (caught) {
    if (systemCode(caught) === "ENOENT" && dirname(path) !== path) return freeBytes(dirname(path));
    throw failed("measure", path, caught);
  }
}

function systemCode(caught: unknown): string | undefined {
  return caught instanceof Error && "code" in caught && typeof caught.code === "string" ? caught.code : undefined;
}

function failed(what: string, path: string, caught: unknown): AnantaError {
  if (caught instanceof AnantaError) return caught;
  const reason = caught instanceof Error ? caught.message : String(caught);
  return new AnantaError(
    "STORAGE_FAILED",
    `cannot ${what} ${path}: ${reason}`,
    { path, reason: systemCode(caught) },
    { cause: caught },
  );
}

const rethrow =
  (what: string, path: string) =>
  (caught: unknown): never => {
    throw failed(what, path, caught);
  };
