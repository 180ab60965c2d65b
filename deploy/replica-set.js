// Health check of the first member, for mongosh: exit code 0 if the set has a primary. The script makes
// the set if there is none. Repeating it changes nothing: it does not change a member of a set, and
// MongoDB refuses a new set with members that belong to one.
const members = ["mongo1", "mongo2", "mongo3"];

if (!db.hello().setName) {
  rs.initiate({
    _id: "rs0",
    members: members.map((name, number) => ({ _id: number, host: `${name}:27017` })),
    // Half of the usual time until a dead primary is replaced; hosts far apart need the usual 10000.
    settings: { electionTimeoutMillis: 5000 },
  });
}

quit(db.hello().primary ? 0 : 1);
