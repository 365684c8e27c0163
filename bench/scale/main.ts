/**
 * A Manager as users run it, with a watch on its event loop: all modules are loaded first (that is over before anybody
 * is served), then the watch starts, then the Manager. ANANTA_STALL_FILE names where stalls are written down.
 */
import "../../manager/manager.js";
import "../../manager/metrics.js";
import "../../manager/settings.js";
import "../../runtime/lifecycle.js";
import "../../runtime/metrics.js";
import "../../runtime/node/env.js";
import "../../runtime/node/public-services.js";
import "../../runtime/ops-http.js";
import "../../runtime/settings-help.js";
import { watchStalls } from "./stall-watch.js";

const file = process.env["ANANTA_STALL_FILE"];
if (file !== undefined) watchStalls(file);
await import("../../manager/main.js");
