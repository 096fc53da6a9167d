// Loaded by every page: live parts, the theme, shortcuts, and buttons that ask the API for something.
import { listen } from "./feed.js";
import "./parts.js";
import { actions } from "./actions.js";
import { keys } from "./keys.js";
import { keepTime } from "./time.js";
import { theme } from "./theme.js";

theme();
actions();
keys();
keepTime();
listen();
