// Counts what the last line of `npm test` reports and writes it to the file named by ANANTA_TEST_SUMMARY.
import { writeFileSync } from "node:fs";

export default class SummaryReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const counts = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
    for (const module of modules) {
      counts.failed += module.errors().length > 0 ? 1 : 0; // did not load, or a hook of the file failed
      for (const suite of module.children.allSuites()) counts.failed += suite.errors().length > 0 ? 1 : 0;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        counts[state === "passed" ? "passed" : state === "skipped" ? "skipped" : "failed"] += 1; // "pending": never finished
      }
    }
    const file = process.env.ANANTA_TEST_SUMMARY;
    if (file) writeFileSync(file, JSON.stringify(counts));
  }
}
